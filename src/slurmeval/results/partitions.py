"""Writing one evaluation's partition: four files that appear together.

All are written aside, then renamed, `evaluations/…` last: where it is, the other three are whole. An older
one is removed first."""

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

import pyarrow as pa
import pyarrow.parquet as pq

from slurmeval.results import schema, statistics
from slurmeval.results.accounts import Accounts
from slurmeval.results.evaluation import Evaluation
from slurmeval.results.joining import Cost, Join
from slurmeval.results.reasoning import tags_of, thoughts_of

if TYPE_CHECKING:
    from slurmeval.gateway.log import Record
    from slurmeval.harnesses.base import HarnessOutput, Metric, Sample
    from slurmeval.paths import Paths

ROWS_PER_GROUP = 2000
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
    targets["evaluations"].unlink(missing_ok=True)
    names = SampleNames(_dataset_revisions(evaluation.datasets))
    uids = [names.of(sample) for sample in output.samples]
    join, totals, statuses = Join(output.samples), Counter[str](), Counter[str]()
    tags = tags_of(evaluation.served)
    accounts = Accounts(unanswered, tags)
    with _set_aside(targets) as aside:
        rows = _request_rows(requests or (), join, uids, output.samples, totals, accounts, tags)
        write_rows(aside["requests"], schema.REQUESTS, (key | row for row in rows))
        rows = _sample_rows(output.samples, uids, join, accounts, statuses)
        write_rows(aside["samples"], schema.SAMPLES, (key | row for row in rows))
        if requests is not None:
            accounts.check(max_unanswered, output.keeps_answers)
        scores = statistics.Scores(output.samples)
        rows = (_metric_row(metric, scores, accounts) for metric in output.metrics)
        write_rows(aside["metrics"], schema.METRICS, (key | row for row in rows))
        row = key | _evaluation_row(evaluation, output, None if requests is None else totals, statuses)
        if requests is not None:
            row |= {"n_unanswered": accounts.n_unanswered, "n_unlogged": accounts.n_unlogged}
        row["log"] = relative(paths, evaluation.log)
        write_rows(aside["evaluations"], schema.EVALUATIONS, [row])


def sample_uid(sample: Sample, revisions: Mapping[str, Any]) -> str:
    """The name of a question that is the same for every model: hash of task, dataset revisions, input and
    reference. Neither position nor the harness's numbering is in it."""
    text = json.dumps([sample.task, revisions, sample.input, sample.reference], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class SampleNames:
    """The `sample_uid` of each sample, gone through in the harness's order. With `repeat_idx` it is a key: of
    equal questions the second is named by a hash of the first one's name and the number 1, and so on."""

    def __init__(self, revisions: Mapping[str, Any]) -> None:
        self._revisions = revisions
        self._taken: set[int] = set()
        self._again: Counter[int] = Counter()

    def of(self, sample: Sample) -> str:
        uid = sample_uid(sample, self._revisions)
        key = int(uid[:16], 16) + sample.repeat_idx
        if key in self._taken:
            self._again[key] += 1
            return hashlib.sha256(f"{uid}:{self._again[key]}".encode()).hexdigest()
        self._taken.add(key)
        return uid


def write_rows(path: Path, table: schema.Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as Parquet, `ROWS_PER_GROUP` in memory at a time, and flushes to disk. Raises
    SchemaDrift on a row with a column that the table does not have; a column left out is null."""
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for batch in _batches(rows):
            unknown = {name for row in batch for name in row} - table.names
            if unknown:
                raise schema.SchemaDrift(f"{table.name} has no column {sorted(unknown)[0]}")
            writer.write_table(pa.Table.from_pylist(batch, table.schema))
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def write_table(path: Path, table: schema.Table, rows: pa.Table) -> None:
    """`write_rows` for rows that are a table of this schema already."""
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        writer.write_table(rows.cast(table.schema))
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def read_rows(path: Path, table: schema.Table) -> pa.Table:
    """A whole file, its schema checked. Raises SchemaDrift, pa.ArrowInvalid or OSError."""
    with pq.ParquetFile(path) as file:
        schema.check(table, file.schema_arrow, path)
        return file.read(use_threads=False)


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
        for name, target in targets.items():
            aside[name].replace(target)
    finally:
        for temporary_path in aside.values():
            temporary_path.unlink(missing_ok=True)


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    batch: list[Mapping[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS_PER_GROUP:
            yield batch
            batch = []
    if batch:
        yield batch


def _request_rows(
    requests: Iterable[Record],
    join: Join,
    uids: Sequence[str],
    samples: Sequence[Sample],
    totals: Counter[str],
    accounts: Accounts,
    tags: Sequence[str] | None,
) -> Iterator[dict[str, Any]]:
    for record in requests:
        position = join.assign(record)
        accounts.answered(record)
        thoughts, marked = thoughts_of(record, tags) if record.answered else (None, False)
        if position is not None and thoughts is not None:
            join.costs[position].think(thoughts)
        totals["n_think_tags"] += marked
        totals["n_requests"] += 1
        totals["n_replayed"] += bool(record.replayed)
        totals["n_truncated"] += record.finish_reason == "length"
        totals["prompt_tokens"] += record.prompt_tokens or 0
        totals["completion_tokens"] += record.completion_tokens or 0
        yield {
            "request_id": record.request_id,
            "sample_uid": None if position is None else uids[position],
            "repeat_idx": None if position is None else samples[position].repeat_idx,
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
    samples: Sequence[Sample], uids: Sequence[str], join: Join, accounts: Accounts, statuses: Counter[str]
) -> Iterator[dict[str, Any]]:
    for sample, uid, cost in zip(samples, uids, join.costs, strict=True):
        status = _status(sample, cost)
        accounts.sample(sample, cost, status)
        statuses[status] += 1
        statuses[f"cut {sample.cut}"] += 1
        yield {
            "sample_uid": uid,
            "repeat_idx": sample.repeat_idx,
            "native_id": None if sample.native_id is None else str(sample.native_id),
            "task": sample.task,
            "category": sample.category,
            "input": _text(sample.input),
            "choices": None if sample.choices is None else [_text(choice) for choice in sample.choices],
            "reference": _text(sample.reference),
            "output": _text(sample.output),
            "scores": [
                {
                    "metric": _text(score.metric),
                    "filter": _text(score.filter),
                    "value": score.value,
                    "correct": score.correct,
                    "answer": _text(score.answer),
                    "explanation": _text(score.explanation),
                }
                for score in sample.scores
            ],
            "status": status,
            "cut": sample.cut,
            "metadata_json": _json(sample.metadata),
            **asdict(cost),
            "reasoning": _text(cost.reasoning),
        }


def _status(sample: Sample, cost: Cost) -> str:
    """A model that thought and gave no answer was not wrong: there was nothing to read."""
    return "unparsed" if cost.reasoning is not None and not (sample.output or "").strip() else sample.status


def _metric_row(metric: Metric, scores: statistics.Scores, accounts: Accounts) -> dict[str, Any]:
    if metric.value is not None and math.isnan(metric.value):
        metric = replace(metric, value=None)
    own = {field.name: getattr(metric, field.name) for field in fields(metric)}
    known = asdict(statistics.spread(metric, scores.of(metric)))
    known |= asdict(accounts.bounds(metric))
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


def _text(value: Any) -> str | None:
    """Text that Parquet can hold: structures as JSON, lone surrogates (seen in models' answers) replaced."""
    if value is None:
        return None
    text = value if isinstance(value, str) else _json(value)
    return text.encode("utf-8", "replace").decode()


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return text.encode("utf-8", "replace").decode()


def _sha256(body: bytes | None) -> str | None:
    return None if body is None else hashlib.sha256(body).hexdigest()
