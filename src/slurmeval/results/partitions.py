"""Writing one evaluation's partition: four files that appear together.

All are written aside. Then an older `evaluations/…` is removed, and they are renamed, `evaluations/…` last:
where it is, the other three are whole and belong to it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from slurmeval.results import schema, statistics
from slurmeval.results.accounts import Accounts, Bounds
from slurmeval.results.evaluation import Evaluation
from slurmeval.results.joining import Join
from slurmeval.results.reasoning import tags_of, thoughts_of
from slurmeval.results.sample_costs import Cost
from slurmeval.results.sample_names import SampleNames

if TYPE_CHECKING:
    from slurmeval.gateway.log import Record
    from slurmeval.harnesses.base import HarnessOutput, Metric, Sample
    from slurmeval.paths import Paths

ROWS_PER_GROUP = 2000
BYTES_PER_GROUP = 32 << 20
"""Of the long texts in a row group: answers may have a megabyte each."""
_LONG = ("input", "output", "reasoning", "metadata_json")
_REPEATED = [
    *("model", "benchmark", "task", "category", "status", "finish_reason", "endpoint", "server_id", "error"),
    *("scores.list.element.metric", "scores.list.element.filter"),
]
"""Columns whose values come again and again. The others are not worth a dictionary of their values."""
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
    evaluation: Evaluation,
    output: HarnessOutput,
    requests: Iterable[Record] | None,
    unanswered: Iterable[Record] = (),
    max_unanswered: float = 1.0,
) -> None:
    """Writes the partition of an evaluation that ended well. `requests` is read once, as a stream; None:
    nobody counted them. `unanswered`: those of the last try that nobody answered. Raises EvaluationFailed
    (bad_result) where too much is missing."""
    key = {"model": model, "benchmark": benchmark}
    targets = {
        "samples": paths.samples(model, benchmark),
        "requests": paths.requests(model, benchmark),
        "metrics": paths.metrics(model, benchmark),
        "evaluations": paths.evaluation(model, benchmark),
    }
    revisions = _dataset_revisions(evaluation.datasets)
    totals, statuses, scores = Counter[str](), Counter[str](), statistics.Scores()
    tags = tags_of(evaluation.served)
    accounts = Accounts(unanswered, tags)
    with _set_aside(targets) as aside, tempfile.TemporaryFile(dir=aside["samples"].parent) as thoughts:
        join = Join(output.samples, SampleNames(revisions).of, thoughts)
        rows = _request_rows(requests or (), join, totals, accounts, tags)
        write_rows(aside["requests"], schema.REQUESTS, (key | row for row in rows))
        rows = _sample_rows(output.samples, SampleNames(revisions), join, accounts, statuses, scores)
        write_rows(aside["samples"], schema.SAMPLES, (key | row for row in rows))
        if requests is not None:
            accounts.check(max_unanswered, output.keeps_answers)
        counted = None if requests is None else accounts
        rows = (_metric_row(metric, scores, counted) for metric in output.metrics)
        write_rows(aside["metrics"], schema.METRICS, (key | row for row in rows))
        row = key | _evaluation_row(evaluation, output, None if requests is None else totals, statuses)
        if requests is not None:
            row |= {"n_unanswered": accounts.n_unanswered, "n_unlogged": accounts.n_unlogged}
        row["log"] = relative(paths, evaluation.log)
        write_rows(aside["evaluations"], schema.EVALUATIONS, [row])


def write_rows(path: Path, table: schema.Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as Parquet, a row group in memory at a time, and flushes to disk. Raises SchemaDrift on a
    row with a column that the table does not have; a column left out is null."""
    with pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=_REPEATED) as writer:
        for batch in _batches(rows):
            unknown = set().union(*batch) - table.names
            if unknown:
                raise schema.SchemaDrift(f"{table.name} has no column {sorted(unknown)[0]}")
            writer.write_table(_as_table(batch, table.schema))
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def write_table(path: Path, table: schema.Table, rows: pa.Table) -> None:
    """`write_rows` for rows that are a table of this schema already."""
    with pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=_REPEATED) as writer:
        writer.write_table(rows.cast(table.schema))
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


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


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Rows by row group: not too many, and not too long."""
    batch: list[Mapping[str, Any]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(map(len, filter(None, map(row.get, _LONG))))
        if len(batch) == ROWS_PER_GROUP or size >= BYTES_PER_GROUP:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _as_table(rows: list[Mapping[str, Any]], columns: pa.Schema) -> pa.Table:
    """Rows as Arrow. Models answer with lone surrogates, and harnesses with structures in place of text: then
    all texts are looked through."""
    try:
        return pa.Table.from_pylist(rows, columns)
    except (UnicodeEncodeError, pa.ArrowTypeError):
        kinds = {field.name: field.type for field in columns}
        cleaned = [{name: _cleaned(value, kinds[name]) for name, value in row.items()} for row in rows]
        return pa.Table.from_pylist(cleaned, columns)


def _cleaned(value: Any, kind: pa.DataType) -> Any:
    """A value with texts that Arrow can hold: structures as JSON, lone surrogates replaced."""
    if value is None:
        return None
    if pa.types.is_list(kind):
        return [_cleaned(one, kind.value_type) for one in value]
    if pa.types.is_struct(kind):
        return {field.name: _cleaned(value[field.name], field.type) for field in kind}
    if pa.types.is_string(kind):
        text = value if isinstance(value, str) else _json(value)
        return text.encode("utf-8", "replace").decode()
    return value


def _request_rows(
    requests: Iterable[Record],
    join: Join,
    totals: Counter[str],
    accounts: Accounts,
    tags: Sequence[str] | None,
) -> Iterator[dict[str, Any]]:
    for record in requests:
        position = join.assign(record)
        accounts.answered(record)
        thoughts, marked = thoughts_of(record, tags) if record.answered else (None, False)
        if position is not None and thoughts is not None:
            join.costs.think(position, thoughts)
        uid, repeat_idx = (None, None) if position is None else join.named(position)
        totals["n_think_tags"] += marked
        totals["n_requests"] += 1
        totals["n_replayed"] += bool(record.replayed)
        totals["n_truncated"] += record.cut_off
        totals["prompt_tokens"] += record.prompt_tokens or 0
        totals["completion_tokens"] += record.completion_tokens or 0
        yield {
            "request_id": record.request_id,
            "sample_uid": uid,
            "repeat_idx": repeat_idx,
            "endpoint": record.endpoint,
            "attempt": record.attempt,
            "server_id": record.server_id,
            "life": record.life,
            "started_at": datetime.fromtimestamp(record.sent_at, UTC),
            "waited_ms": record.waited_ms,
            "ttft_ms": record.ttft_ms and record.ttft_ms - (record.waited_ms or 0.0),
            "latency_ms": record.server_ms,
            "prompt_tokens": record.prompt_tokens,
            "completion_tokens": record.completion_tokens,
            "finish_reason": record.finish_reason,
            "http_status": record.http_status,
            "error": record.error,
            "replayed": record.replayed,
            "request_key": record.key,
            "response_sha256": _sha256(record.response_body),
        }


def _sample_rows(
    samples: Iterable[Sample],
    names: SampleNames,
    join: Join,
    accounts: Accounts,
    statuses: Counter[str],
    scores: statistics.Scores,
) -> Iterator[dict[str, Any]]:
    """The rows; what stands in other tables too is counted on the way."""
    for position, sample in enumerate(samples):
        cost = join.costs[position]
        status = _status(sample, cost)
        if accounts.sample(sample, cost, status):
            status = "error"
        statuses[status] += 1
        statuses[f"cut {sample.cut}"] += 1
        scores.add(sample)
        yield {
            "sample_uid": names.of(sample),
            "repeat_idx": sample.repeat_idx,
            "native_id": sample.native_id,
            "task": sample.task,
            "category": sample.category,
            "input": sample.input,
            "choices": sample.choices,
            "reference": sample.reference,
            "output": None if status == "error" and not sample.output else sample.output,
            "scores": [
                {
                    "metric": score.metric,
                    "filter": score.filter,
                    "value": score.value,
                    "correct": score.correct,
                    "answer": score.answer,
                    "explanation": score.explanation,
                }
                for score in sample.scores
            ],
            "status": status,
            "metadata_json": _json(sample.metadata),
            "cut": sample.cut,
            "n_requests": cost.n_requests,
            "finish_reason": cost.finish_reason,
            "prompt_tokens": cost.prompt_tokens,
            "completion_tokens": cost.completion_tokens,
            "latency_ms": cost.latency_ms,
            "reasoning": cost.reasoning,
        }


def _status(sample: Sample, cost: Cost) -> str:
    """A model that thought and gave no answer was not wrong: there was nothing to read."""
    return "unparsed" if cost.reasoning is not None and not (sample.output or "").strip() else sample.status


def _metric_row(metric: Metric, scores: statistics.Scores, accounts: Accounts | None) -> dict[str, Any]:
    if metric.value is not None and math.isnan(metric.value):
        metric = replace(metric, value=None)
    own = {field.name: getattr(metric, field.name) for field in fields(metric)}
    known = asdict(statistics.spread(metric, scores.of(metric)))
    known |= asdict(Bounds() if accounts is None else accounts.bounds(metric))
    return own | known | {"chance": metric.chance if known["chance"] is None else known["chance"]}


def _evaluation_row(
    evaluation: Evaluation, output: HarnessOutput, totals: Counter[str] | None, statuses: Counter[str]
) -> dict[str, Any]:
    own = {field.name: getattr(evaluation, field.name) for field in fields(evaluation)}
    for name, column in JSON_FIELDS.items():
        own[column] = _json(own.pop(name))
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
        "n_samples": len(output.samples),
        "n_errored": statuses["error"],
        "n_unparsed": statuses["unparsed"],
        "n_cut": None if statuses["cut None"] else statuses["cut True"],
        **{name: None if totals is None else totals[name] for name in counted},
    }


def _dataset_revisions(datasets: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {str(d["id"]): d.get("revision") or d.get("sha256") for d in datasets}


def _json(value: Any) -> str:
    """JSON with sorted keys; what orjson refuses (lone surrogates, huge numbers) as Python writes it."""
    try:
        return orjson.dumps(value, str, orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
        return text.encode("utf-8", "replace").decode()


def _sha256(body: bytes | None) -> str | None:
    return None if body is None else hashlib.sha256(body).hexdigest()
