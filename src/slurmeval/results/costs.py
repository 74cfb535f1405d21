"""What evaluations took: their own jobs, and their shares of their servers' busy time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from slurmeval.results.gpu_time import Times, divided, shares
from slurmeval.results.in_flight import EngineRunId, InFlight, Pair
from slurmeval.results.job_runs import AccountedJob, queued_s
from slurmeval.slurm.commands import JobRun


def of_job(jobs: Sequence[AccountedJob], accounts: Mapping[str, Sequence[JobRun]]) -> dict[str, Any]:
    """The columns about an evaluation's own jobs; null where accounting does not know them."""
    if not jobs:
        return {}
    row: dict[str, Any] = {"job_id": jobs[-1].job_id}
    runs = [run for job in jobs for run in accounts.get(job.job_id, ())]
    if not runs or jobs[-1].job_id not in accounts:
        return row
    last = runs[-1]
    return row | {
        "slurm_state": last.state,
        "job_runs": len(runs),
        "node": last.nodes or None,
        "queued_s": queued_s(last),
        "elapsed_s": float(last.elapsed_s),
        "cpu_s": last.cpu_s,
        "max_rss_mb": last.max_rss_mb,
    }


def server_time(
    evaluations: Mapping[Pair, InFlight], servers: Iterable[Mapping[str, Any]]
) -> dict[Pair, dict[str, float]]:
    """By evaluation: `server_s` and `gpu_s`.

    Each row's busy seconds are divided among the evaluations that had requests in flight, in the
    proportion of the time that was theirs.
    """
    rows = {(row["server_id"], row["engine_run"]): row for row in servers if row.get("busy_s")}
    asked: dict[EngineRunId, list[tuple[Pair, Times, Times]]] = defaultdict(list)
    for pair, found in evaluations.items():
        for number, key in enumerate(found.engine_runs):
            if key in rows:
                own = found.engine_run == number
                asked[key].append((pair, found.begin[own], found.end[own]))
    seconds: dict[Pair, dict[str, float]] = {}
    for key, intervals in asked.items():
        for pair, busy_s in _divided(rows[key], intervals).items():
            used = seconds.setdefault(pair, {"server_s": 0.0, "gpu_s": 0.0})
            used["server_s"] += busy_s
            used["gpu_s"] += busy_s * (rows[key].get("gpus") or 0)
    return seconds


def _divided(row: Mapping[str, Any], intervals: Sequence[tuple[Pair, Times, Times]]) -> dict[Pair, float]:
    """Divides the busy seconds of one engine run among its evaluations.

    A request may have waited for its server: what lies before it was ready is no work of the server's.
    """
    if row.get("ready_at") is None:
        return {}
    pairs = [pair for pair, _, _ in intervals]
    begin = np.maximum(np.concatenate([begin for _, begin, _ in intervals]), _us(row["ready_at"]))
    end = np.concatenate([end for _, _, end in intervals])
    if row.get("ended_at") is not None:
        end = np.minimum(end, _us(row["ended_at"]))
    owner = np.repeat(np.arange(len(pairs)), [len(each) for _, each, _ in intervals])
    there = end > begin
    parts = shares(begin[there], end[there], owner[there], len(pairs))
    return divided(row["busy_s"], {p: float(part) for p, part in zip(pairs, parts, strict=True) if part > 0})


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)
