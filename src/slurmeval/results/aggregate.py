"""The tables over all evaluations: metrics, evaluations, servers. Samples and requests stay in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from slurmeval.errors import ErrorClass
from slurmeval.results import costs, job_lives, schema
from slurmeval.results.partitions import read_rows, relative, write_rows
from slurmeval.results.records import read_record, time_of
from slurmeval.results.servers import gpus_of, server_rows
from slurmeval.slurm import commands

if TYPE_CHECKING:
    from slurmeval.paths import Paths


def aggregate(
    paths: Paths,
    evaluations: Sequence[tuple[str, str]],
    ask: job_lives.Ask = commands.lives,
    settle_s: float = job_lives.SETTLE_S,
) -> None:
    """Writes `metrics.parquet`, `evaluations.parquet` and `servers.parquet` for these (model, benchmark).

    Partitions of other evaluations, left from an earlier config, are left out. An evaluation without a
    partition is `failed` when there is a failure record, else `missing`; one whose partition cannot be read
    is `failed`. Accounting is asked (`ask`) once for all jobs of Slurm's, and again for at most `settle_s`
    until it knows of the end of those that have just ended. Raises SchemaDrift on a partition of another
    version."""
    unreadable: dict[tuple[str, str], str] = {}
    rows = _metric_rows(paths, evaluations, unreadable)
    _replace(paths.all_metrics, schema.METRICS, rows)
    folders = {model: job_lives.server_folders(paths, model) for model, _ in evaluations}
    jobs = {pair: job_lives.jobs_of_evaluation(paths, *pair) for pair in evaluations}
    all_folders = [folder for some in folders.values() for folder in some]
    of_servers = [job_lives.job_of_server(folder) for folder in all_folders]
    all_jobs = [*filter(None, of_servers), *(job for some in jobs.values() for job in some)]
    accounts = job_lives.lives(all_jobs, ask, settle_s)
    gpus = gpus_of(all_folders)
    servers = [row for model, some in folders.items() for row in server_rows(model, some, accounts, gpus)]
    server_time = costs.server_time(paths, evaluations, servers)
    rows = (
        _evaluation_row(paths, *pair, unreadable.get(pair))
        | costs.of_job(jobs[pair], accounts)
        | server_time.get(pair, {})
        for pair in evaluations
    )
    _replace(paths.all_evaluations, schema.ALL_EVALUATIONS, rows)
    _replace(paths.all_servers, schema.SERVERS, servers)


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
    record = read_record(paths.failure(model, benchmark))
    if record is None:
        return row | {"status": "missing"}
    return row | {
        "status": "failed",
        "error_class": record.get("error_class"),
        "reason": record.get("reason"),
        "log": relative(paths, record.get("log")),
        "attempt": record.get("attempt"),
        "started_at": time_of(record.get("started_at")),
        "ended_at": time_of(record.get("ended_at")),
    }


def _unreadable(paths: Paths, file: Path, error: Exception) -> str:
    return f"{relative(paths, str(file))} cannot be read: {str(error).splitlines()[0]}"
