"""The tables over all evaluations: metrics, evaluations, servers. Samples and requests stay in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from slurmeval.errors import ErrorClass
from slurmeval.results import costs, job_runs, schema
from slurmeval.results.gathering import gather
from slurmeval.results.partitions import relative, replace_table
from slurmeval.results.records import time_of
from slurmeval.results.servers import gpus_of, server_rows
from slurmeval.slurm import commands
from slurmeval.state.evaluation import read_failure

if TYPE_CHECKING:
    from slurmeval.paths import Paths

Pair = tuple[str, str]


def aggregate(
    paths: Paths,
    evaluations: Sequence[Pair],
    ask: job_runs.Ask = commands.job_runs,
    settle_s: float = job_runs.SETTLE_S,
    unusable: Mapping[Pair, str] | None = None,
    judges: Iterable[str] = (),
    judged: Mapping[Pair, Sequence[Pair]] | None = None,
) -> None:
    """Writes `metrics.parquet`, `evaluations.parquet` and `servers.parquet` for these (model, benchmark).

    Partitions of other evaluations, left from an earlier config, are left out. An evaluation without a
    partition is `failed` when there is a failure record, else `missing`; one whose partition cannot be read
    is `failed`, for the reason in `unusable` where that has one. Accounting is asked (`ask`) once for all
    jobs of Slurm's, and again for at most `settle_s` until it knows how the last ones have ended. `judges`:
    models that had servers too; `judged`: evaluations whose answers an evaluation by a judge reads.
    """
    found = gather(paths, evaluations)
    unreadable = found.unreadable | dict(unusable or {})
    models = [*dict(evaluations), *judges]
    folders = {model: job_runs.server_folders(paths, model) for model in models}
    jobs = {pair: job_runs.jobs_of_evaluation(paths, *pair) for pair in evaluations}
    all_folders = [folder for some in folders.values() for folder in some]
    of_servers = [job_runs.job_of_server(folder) for folder in all_folders]
    all_jobs = [*filter(None, of_servers), *(job for some in jobs.values() for job in some)]
    accounts = job_runs.accounted(all_jobs, ask, settle_s)
    gpus = gpus_of(all_folders)
    servers = [row for model, some in folders.items() for row in server_rows(model, some, accounts, gpus)]
    server_time = costs.server_time(found.in_flight, servers)
    rows = [
        (found.evaluations.get(pair) or _row_without(paths, pair, unreadable.get(pair)))
        | costs.of_job(jobs[pair], accounts)
        | server_time.get(pair, {})
        for pair in evaluations
    ]
    _say_what_is_lacking(rows, judged or {})
    replace_table(paths.all_metrics, schema.METRICS, found.all_metrics(evaluations))
    replace_table(paths.all_evaluations, schema.ALL_EVALUATIONS, rows)
    replace_table(paths.all_servers, schema.SERVERS, servers)


def are_of(paths: Paths, evaluations: Sequence[Pair]) -> bool:
    """Whether the tables over all evaluations are there, and tell of just these."""
    if not (paths.all_metrics.exists() and paths.all_servers.exists()):
        return False
    try:
        table = pq.read_table(paths.all_evaluations, columns=["model", "benchmark"], partitioning=None)
    except (OSError, pa.ArrowInvalid):
        return False
    pairs = zip(table["model"].to_pylist(), table["benchmark"].to_pylist(), strict=True)
    return list(pairs) == list(evaluations)


def _say_what_is_lacking(rows: Sequence[dict[str, Any]], judged: Mapping[Pair, Sequence[Pair]]) -> None:
    """Gives evaluations that never began, since there are no answers to judge, this reason."""
    by_pair = {(row["model"], row["benchmark"]): row for row in rows}
    for pair, needed in judged.items():
        lacking = [by_pair[each] for each in needed if each in by_pair and by_pair[each]["status"] != "ok"]
        if pair in by_pair and by_pair[pair]["status"] == "missing" and lacking:
            first = lacking[0]
            state = "has not ended" if first["status"] == "missing" else str(first["status"])
            why = f": {first['reason']}" if first.get("reason") else ""
            told = f"there are no answers to judge: {first['model']} on {first['benchmark']} {state}{why}"
            by_pair[pair]["reason"] = told


def _row_without(paths: Paths, pair: Pair, unreadable: str | None) -> dict[str, Any]:
    """The row of an evaluation that has no partition to be read."""
    model, benchmark = pair
    row = {"model": model, "benchmark": benchmark}
    if unreadable is not None:
        return row | {"status": "failed", "error_class": str(ErrorClass.BAD_RESULT), "reason": unreadable}
    record = read_failure(paths.failure(model, benchmark))
    if record is None:
        return row | {"status": "missing"}
    return row | {
        "status": "stopped" if record.error_class is ErrorClass.STOPPED else "failed",
        "error_class": record.error_class,
        "reason": record.reason,
        "log": relative(paths, record.log),
        "attempt": record.attempt or None,
        "started_at": time_of(record.started_at),
        "ended_at": time_of(record.ended_at),
    }
