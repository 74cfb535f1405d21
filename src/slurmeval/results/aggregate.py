"""The tables over all evaluations: metrics, evaluations, servers. Samples and requests stay in place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from slurmeval.errors import ErrorClass
from slurmeval.files import read_json
from slurmeval.results import schema
from slurmeval.results.partitions import read_rows, relative, write_rows

if TYPE_CHECKING:
    from slurmeval.paths import Paths


def aggregate(paths: Paths, evaluations: Sequence[tuple[str, str]]) -> None:
    """Writes `metrics.parquet`, `evaluations.parquet` and `servers.parquet` for these (model, benchmark).

    Partitions of other evaluations, left from an earlier config, are left out. An evaluation without a
    partition is `failed` when there is a failure record, else `missing`; one whose partition cannot be read
    is `failed`. Raises SchemaDrift on a partition of another version."""
    unreadable: dict[tuple[str, str], str] = {}
    rows = _metric_rows(paths, evaluations, unreadable)
    _replace(paths.all_metrics, schema.METRICS, rows)
    rows = (_evaluation_row(paths, *pair, unreadable.get(pair)) for pair in evaluations)
    _replace(paths.all_evaluations, schema.EVALUATIONS, rows)
    models = list(dict.fromkeys(model for model, _ in evaluations))
    _replace(paths.all_servers, schema.SERVERS, _server_rows(paths, models))


def _replace(target: Path, table: schema.Table, rows: Iterable[dict[str, Any]]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.new")
    try:
        write_rows(aside, table, rows)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def _metric_rows(
    paths: Paths, evaluations: Iterable[tuple[str, str]], unreadable: dict[tuple[str, str], str]
) -> Iterator[dict[str, Any]]:
    """The rows of all partitions that are there; what cannot be read is noted in `unreadable`."""
    for pair in evaluations:
        if paths.evaluation(*pair).exists():
            try:
                yield from read_rows(paths.metrics(*pair), schema.METRICS).to_pylist()
            except (OSError, pa.ArrowInvalid) as error:
                unreadable[pair] = _unreadable(paths, paths.metrics(*pair), error)


def _evaluation_row(paths: Paths, model: str, benchmark: str, unreadable: str | None) -> dict[str, Any]:
    partition = paths.evaluation(model, benchmark)
    if unreadable is None and partition.exists():
        try:
            (row,) = read_rows(partition, schema.EVALUATIONS).to_pylist()
            return dict(row)
        except (OSError, pa.ArrowInvalid) as error:
            unreadable = _unreadable(paths, partition, error)
    row = {"model": model, "benchmark": benchmark}
    if unreadable is not None:
        return row | {"status": "failed", "error_class": str(ErrorClass.BAD_RESULT), "reason": unreadable}
    record = _read_record(paths.failure(model, benchmark))
    if record is None:
        return row | {"status": "missing"}
    return row | {
        "status": "failed",
        "error_class": record.get("error_class"),
        "reason": record.get("reason"),
        "log": relative(paths, record.get("log")),
        "attempt": record.get("attempt"),
        "started_at": _time(record.get("started_at")),
        "ended_at": _time(record.get("ended_at")),
    }


def _unreadable(paths: Paths, file: Path, error: Exception) -> str:
    return f"{relative(paths, str(file))} cannot be read: {str(error).splitlines()[0]}"


def _server_rows(paths: Paths, models: Iterable[str]) -> Iterator[dict[str, Any]]:
    for model in models:
        for folder in sorted(paths.servers_of(model).glob("[0-9]*")):
            yield from _lives(model, folder)


def _lives(model: str, folder: Path) -> Iterator[dict[str, Any]]:
    """One row per life that ended, and one for the life under way or for a server that never started."""
    state, spec, job = (_read_record(folder / f"{name}.json") or {} for name in ("state", "spec", "job"))
    common = {
        "model": model,
        "server_id": f"{model}/{folder.name}",
        "status": state.get("status", "pending"),
        "error_class": state.get("error_class"),
        "reason": state.get("reason"),
        "job_id": _optional(str, job.get("job_id")),
        "cluster": job.get("cluster"),
        "submitted_at": _time(job.get("submitted_at")),
        **{name: spec.get(name) for name in ("dtype", "quantization", "max_model_len")},
    }
    lives = list(_read_lines(folder / "lives.jsonl"))
    current = int(state.get("life") or 0)
    if not any(life["life"] == current for life in lives):
        lives.append(_under_way(state, current, lives))
    for index, life in enumerate(lives):
        yield common | _life(life, common["submitted_at"] if index == 0 else None)


def _under_way(state: dict[str, Any], current: int, lives: list[dict[str, Any]]) -> dict[str, Any]:
    """What a server's state says of a life that has not ended; its tokens are those of all lives."""
    life: dict[str, Any] = {"life": current}
    if current == 1:
        life["started_at"] = state.get("started_at")
    if state.get("status") == "ready":
        life["ready_at"] = state.get("ready_at")
    for name in ("prompt_tokens", "generated_tokens"):
        if current and name in state:
            life[name] = state[name] - sum(ended.get(name, 0) for ended in lives)
    return life


def _life(life: dict[str, Any], submitted_at: datetime | None) -> dict[str, Any]:
    row: dict[str, Any] = {name: _time(life.get(name)) for name in ("started_at", "ready_at", "ended_at")}
    for name in ("starting_s", "busy_s", "idle_s"):
        row[name] = _optional(float, life.get(name))
    for name in ("requests", "prompt_tokens", "generated_tokens"):
        row[name] = _optional(int, life.get(name))
    if submitted_at is not None and row["started_at"] is not None:
        row["queued_s"] = max(0.0, (row["started_at"] - submitted_at).total_seconds())
    if row["busy_s"] and row["generated_tokens"] is not None:
        row["tokens_per_s"] = row["generated_tokens"] / row["busy_s"]
    return row | {"life": int(life["life"]), "exit_reason": life.get("exit_reason")}


def _read_record(path: Path) -> dict[str, Any] | None:
    """A JSON object; what is not one (a file of a machine that went down) counts as empty."""
    try:
        value = read_json(path)
    except ValueError:
        return {}
    return value if isinstance(value, dict) or value is None else {}


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; a last line cut off by a crash is left out."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("life"), int):
            yield value


def _time(value: Any) -> datetime | None:
    """A time from ISO text (without zone: UTC); None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _optional(kind: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else kind(value)
