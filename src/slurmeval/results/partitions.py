"""Writing one evaluation's partition: four files that appear together.

All are written aside. Then an older `evaluations/…` is removed, and they are renamed, `evaluations/…` last:
where it is, the other three are whole and belong to it.
"""

from __future__ import annotations

import gc
import hashlib
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from slurmeval.results import columns, schema, statistics
from slurmeval.results.accounts import Accounts, Bounds
from slurmeval.results.evaluation import EvaluationRecord
from slurmeval.results.joining import Join
from slurmeval.results.noise import Noise
from slurmeval.results.reasoning import choices_of, tags_of, thoughts_of
from slurmeval.results.sample_names import NAME_BYTES, SampleNames

if TYPE_CHECKING:
    from slurmeval.gateway.log import Record
    from slurmeval.harnesses.base import HarnessOutput, Metric, Sample
    from slurmeval.paths import Paths

_REPEATED = [
    *("model", "benchmark", "task", "category", "status", "finish_reason", "endpoint", "server_id", "error"),
    *("scores.list.element.metric", "scores.list.element.filter"),
]
"""Columns whose values come again and again. The others are not worth a dictionary of their values."""
_OF_SAMPLE = (
    *("repeat_idx", "native_id", "task", "category", "cluster", "choices", "reference", "cut"),
    *("input", "output", "scores", "status"),
)
_OF_RECORD = (
    *("request_id", "endpoint", "attempt", "server_id", "engine_run", "waited_ms", "prompt_tokens"),
    *("completion_tokens", "finish_reason", "http_status", "error", "replayed", "key"),
)
_OF_REQUEST = (
    *("sample_uid", "repeat_idx", "started_at", "ttft_ms", "latency_ms", "response_sha256"),
    *_OF_RECORD[:-1],
    "request_key",
)
_of_record = attrgetter(*_OF_RECORD)
_of_sample = attrgetter(*_OF_SAMPLE)
_CUTS = {cut: f"cut {cut}" for cut in (None, False, True)}
JSON_FIELDS = {
    "versions": "versions_json",
    "datasets": "datasets_json",
    "served": "served_json",
    "parameters": "parameters_json",
}


def write(
    paths: Paths,
    model: str,
    benchmark: str,
    evaluation: EvaluationRecord,
    output: HarnessOutput,
    requests: Iterable[Record] | None,
    unanswered: Iterable[Record] = (),
    max_unanswered: float = 1.0,
    asked: Mapping[str, Any] | None = None,
    again: Iterable[Record] = (),
) -> None:
    """Writes the partition of an evaluation that ended well.

    `requests` is read once, as a stream; None: nobody counted them. `unanswered`: those of the last try
    that nobody answered; `again`: second answers to some. Raises EvaluationFailed (bad_result) where too
    much is missing. `asked`: how the model was served that was asked, where that is another one.
    """
    key = {"model": model, "benchmark": benchmark}
    targets = {
        "samples": paths.samples(model, benchmark),
        "requests": paths.requests(model, benchmark),
        "metrics": paths.metrics(model, benchmark),
        "evaluations": paths.evaluation(model, benchmark),
    }
    revisions = _dataset_revisions(evaluation.datasets)
    totals, statuses, scores = Counter[str](), Counter[str](), statistics.Scores()
    tags = tags_of(evaluation.served if asked is None else asked)
    accounts, noise = Accounts(unanswered, tags), Noise(again)
    with (
        _no_collecting(),
        _set_aside(targets) as aside,
        tempfile.TemporaryFile(dir=aside["samples"].parent) as thoughts,
    ):
        join = Join(output.samples, SampleNames(revisions).of, thoughts)
        seen = map(noise.seen, requests or ())
        _write(aside["requests"], schema.REQUESTS, _request_groups(seen, join, totals, accounts, tags), key)
        groups = _sample_groups(output.samples, join, accounts, statuses, scores)
        _write(aside["samples"], schema.SAMPLES, groups, key)
        if requests is not None:
            accounts.check(max_unanswered, output.keeps_answers)
        counted = None if requests is None else accounts
        rows = (_metric_row(metric, scores, counted) for metric in output.metrics)
        write_rows(aside["metrics"], schema.METRICS, rows, key)
        row = key | _evaluation_row(evaluation, output, None if requests is None else totals, statuses)
        if requests is not None:
            row |= {"n_unanswered": accounts.n_unanswered, "n_unlogged": accounts.n_unlogged}
        row |= noise.columns()
        row["log"] = relative(paths, evaluation.log)
        write_rows(aside["evaluations"], schema.EVALUATIONS, [row])


def write_rows(
    path: Path, table: schema.Table, rows: Iterable[Mapping[str, Any]], key: Mapping[str, str] | None = None
) -> None:
    """Writes rows as Parquet, a row group in memory at a time, and flushes to disk.

    `key`: what stands in all rows. Raises SchemaDrift on a row with a column that the table does not
    have; one left out is null.
    """
    _write(path, table, map(columns.of_rows, columns.groups(rows)), key or {})


def _write(
    path: Path, table: schema.Table, groups: Iterable[columns.Columns], key: Mapping[str, str]
) -> None:
    tables = (columns.table(group, key, table) for group in groups)
    with pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=_REPEATED) as writer:
        for parts in columns.groups(tables, _share, columns.ROWS_PER_GROUP):
            writer.write_table(pa.concat_tables(parts))
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _share(part: pa.Table) -> int:
    """Returns the bytes that a part takes of BYTES_PER_GROUP: its own, or for its many rows more."""
    n_rows: int = part.num_rows
    size: int = part.nbytes
    return max(size, n_rows * math.ceil(columns.BYTES_PER_GROUP / columns.ROWS_PER_GROUP))


def write_table(path: Path, table: schema.Table, rows: pa.Table) -> None:
    """`write_rows` for rows that are a table of this schema already."""
    with pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=_REPEATED) as writer:
        writer.write_table(rows.cast(table.schema))
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def replace_table(target: Path, table: schema.Table, rows: pa.Table | Iterable[Mapping[str, Any]]) -> None:
    """Writes a table, or its rows, aside and then in the place of what is there. Raises as `write_rows`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.new")
    try:
        if isinstance(rows, pa.Table):
            write_table(aside, table, rows)
        else:
            write_rows(aside, table, rows)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def read_rows(path: Path, table: schema.Table, columns: list[str] | None = None) -> pa.Table:
    """Returns the rows of a file, all columns or some. Raises SchemaDrift, pa.ArrowInvalid or OSError."""
    with pq.ParquetFile(path) as file:
        schema.check(table, file.schema_arrow, path)
        return file.read(columns, use_threads=False)


def version_of(path: Path) -> str | None:
    """The version of the tables that a file is of; None where there is no such file, or it cannot be read."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return None
    return metadata.get(b"schema_version", b"none").decode()  # type: ignore[no-any-return]


def evaluation_row(path: Path) -> dict[str, Any]:
    """The one row of an evaluation's partition of whatever version; empty where it cannot be read."""
    try:
        with pq.ParquetFile(path) as file:
            rows: list[dict[str, Any]] = file.read(use_threads=False).to_pylist()
    except (OSError, pa.ArrowInvalid):
        return {}
    return rows[0] if rows else {}


def relative(paths: Paths, file: str | None) -> str | None:
    """`file` relative to the results folder where it lies there, else as it is."""
    if file is None:
        return None
    path = Path(file)
    return str(path.relative_to(paths.results)) if path.is_relative_to(paths.results) else file


@contextmanager
def _no_collecting() -> Iterator[None]:
    """Halts the garbage collector.

    It would go through the rows of a group again and again, and they have no cycles.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _set_aside(targets: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """Names beside the targets; at the end renamed, in the mapping's order, or on an error removed."""
    aside: dict[str, Path] = {}
    try:
        for name, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
            os.fchmod(descriptor, 0o644)
            os.close(descriptor)
            aside[name] = Path(temporary)
        yield aside
        targets["evaluations"].unlink(missing_ok=True)
        for name, target in targets.items():
            aside[name].replace(target)
    finally:
        for temporary_path in aside.values():
            temporary_path.unlink(missing_ok=True)


def _request_groups(
    requests: Iterable[Record],
    join: Join,
    totals: Counter[str],
    accounts: Accounts,
    tags: Sequence[str] | None,
) -> Iterator[columns.Columns]:
    """Yields the rows by group, and counts what their columns tell."""
    for group in columns.groups(_request_rows(requests, join, totals, accounts, tags)):
        found = dict(zip(_OF_REQUEST, zip(*group, strict=True), strict=True))
        totals["n_requests"] += len(group)
        totals["n_replayed"] += sum(map(bool, found["replayed"]))
        for name in ("prompt_tokens", "completion_tokens"):
            totals[name] += sum(filter(None, found[name]))
        yield found | {"started_at": columns.times(found["started_at"])}


def _request_rows(
    requests: Iterable[Record],
    join: Join,
    totals: Counter[str],
    accounts: Accounts,
    tags: Sequence[str] | None,
) -> Iterator[tuple[Any, ...]]:
    """Yields the values of `_OF_REQUEST`."""
    for record in requests:
        uid = repeat_idx = None
        if record.answered:
            choices = choices_of(record.response)
            accounts.answered(record, choices)
            thoughts, marked = thoughts_of(choices, tags)
            totals["n_think_tags"] += marked
            if (position := join.assign(record)) is not None:
                uid, repeat_idx = join.named(position)
                if thoughts is not None:
                    join.costs.think(position, thoughts)
        totals["n_truncated"] += record.cut_off
        yield (
            uid,
            repeat_idx,
            record.sent_at,
            record.ttft_ms and record.ttft_ms - (record.waited_ms or 0.0),
            record.server_ms,
            _sha256(record.response_body),
            *_of_record(record),
        )


def _sample_groups(
    samples: Iterable[Sample],
    join: Join,
    accounts: Accounts,
    statuses: Counter[str],
    scores: statistics.Scores,
) -> Iterator[columns.Columns]:
    """Yields the rows by group; what stands in other tables too is counted on the way."""
    start = 0
    each = ((sample, columns.json_text(sample.metadata)) for sample in samples)
    for pairs in columns.groups(each, _length):
        group, metadata = zip(*pairs, strict=True)
        stop = start + len(group)
        found = dict(zip(_OF_SAMPLE, zip(*map(_of_sample, group), strict=True), strict=True))
        thoughts, output = join.costs.reasoning(start, stop), list(found["output"])
        status = list(map(_status, found["status"], output, thoughts))
        for place in accounts.samples(group, join.costs.n_requests[start:stop], status):
            status[place], output[place] = "error", output[place] or None
        scores.add(group)
        statuses.update(status)
        statuses.update(map(_CUTS.__getitem__, found["cut"]))
        yield (
            found
            | join.costs.columns(start, stop)
            | {
                "sample_uid": columns.hexadecimal(join.names(start, group), NAME_BYTES),
                "output": output,
                "reasoning": thoughts,
                "scores": columns.scores(found["scores"]),
                "status": status,
                "metadata_json": metadata,
            }
        )
        start = stop


def _length(pair: tuple[Sample, str]) -> int:
    sample, metadata = pair
    return len(metadata) + len(sample.input) + len(sample.output or "")


def _status(status: str, output: str | None, thoughts: str | None) -> str:
    """A model that thought and gave no answer was not wrong: there was nothing to read."""
    return "unparsed" if thoughts is not None and not (output or "").strip() else status


def _metric_row(metric: Metric, scores: statistics.Scores, accounts: Accounts | None) -> dict[str, Any]:
    if metric.value is not None and math.isnan(metric.value):
        metric = replace(metric, value=None)
    own = {field.name: getattr(metric, field.name) for field in fields(metric)}
    known = asdict(statistics.spread(metric, scores.of(metric)))
    known |= asdict(Bounds() if accounts is None else accounts.bounds(metric))
    return own | known | {"chance": metric.chance if known["chance"] is None else known["chance"]}


def _evaluation_row(
    evaluation: EvaluationRecord, output: HarnessOutput, totals: Counter[str] | None, statuses: Counter[str]
) -> dict[str, Any]:
    own = {field.name: getattr(evaluation, field.name) for field in fields(evaluation)}
    for name, column in JSON_FIELDS.items():
        own[column] = columns.json_text(own.pop(name))
    counted = (
        "n_requests",
        "n_replayed",
        "n_truncated",
        "n_think_tags",
        "prompt_tokens",
        "completion_tokens",
    )
    return own | {
        "status": "ok",
        "harness_version": output.harness_version,
        "task_version": None if output.task_version is None else str(output.task_version),
        "n_requested": output.n_requested,
        "n_available": output.n_available,
        "n_samples": len(output.samples),
        "n_errored": statuses["error"],
        "n_unparsed": statuses["unparsed"],
        "n_cut": None if statuses["cut None"] else statuses["cut True"],
        **{name: None if totals is None else totals[name] for name in counted},
    }


def _dataset_revisions(datasets: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {str(d["id"]): d.get("revision") or d.get("sha256") for d in datasets}


def _sha256(body: bytes | None) -> str | None:
    return None if body is None else hashlib.sha256(body).hexdigest()
