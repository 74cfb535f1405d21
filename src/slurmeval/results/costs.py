"""What evaluations took: their own jobs, and their shares of their servers' busy time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from slurmeval.errors import SlurmevalError
from slurmeval.gateway import log as gateway_log
from slurmeval.results.gpu_time import divided, merged, shares
from slurmeval.results.job_lives import Job, queued_s
from slurmeval.slurm.commands import JobLife

if TYPE_CHECKING:
    from slurmeval.paths import Paths

Pair = tuple[str, str]
_LifeKey = tuple[str, int]
"""A server and its life of vLLM."""

_COLUMNS = ["server_id", "life", "started_at", "latency_ms"]
_ROWS = 50_000


def of_job(jobs: Sequence[Job], accounts: Mapping[str, Sequence[JobLife]]) -> dict[str, Any]:
    """The columns about an evaluation's own jobs; null where accounting does not know them."""
    if not jobs:
        return {}
    row: dict[str, Any] = {"job_id": jobs[-1].job_id}
    lives = [life for job in jobs for life in accounts.get(job.job_id, ())]
    if not lives or jobs[-1].job_id not in accounts:
        return row
    last = lives[-1]
    return row | {
        "slurm_state": last.state,
        "job_lives": len(lives),
        "node": last.nodes or None,
        "queued_s": queued_s(last),
        "elapsed_s": float(last.elapsed_s),
        "cpu_s": last.cpu_s,
        "max_rss_mb": last.max_rss_mb,
    }


def server_time(
    paths: Paths, evaluations: Iterable[Pair], servers: Iterable[Mapping[str, Any]]
) -> dict[Pair, dict[str, float]]:
    """By evaluation: `server_s` and `gpu_s`. Each row's busy seconds are divided among the evaluations that
    had requests in flight, in the proportion of the time that was theirs."""
    rows = {(row["server_id"], row["life"]): row for row in servers if row.get("busy_s")}
    in_flight: dict[_LifeKey, list[tuple[float, float, Pair]]] = defaultdict(list)
    for pair in evaluations:
        for key, intervals in _intervals(paths, pair, rows).items():
            in_flight[key] += [(begin, end, pair) for begin, end in intervals]
    found: dict[Pair, dict[str, float]] = {}
    for key, intervals_of_all in in_flight.items():
        row = rows[key]
        for pair, busy_s in divided(row["busy_s"], shares(intervals_of_all)).items():
            own = found.setdefault(pair, {"server_s": 0.0, "gpu_s": 0.0})
            own["server_s"] += busy_s
            own["gpu_s"] += busy_s * (row.get("gpus") or 0)
    return found


def _intervals(
    paths: Paths, pair: Pair, rows: Mapping[_LifeKey, Mapping[str, Any]]
) -> dict[_LifeKey, list[tuple[float, float]]]:
    """When an evaluation had requests at which life of which server, within the time that it was ready."""
    found: dict[_LifeKey, list[tuple[float, float]]] = defaultdict(list)
    for server_id, life, started, latency_ms in _requests(paths, pair):
        row = rows.get((server_id, life))
        if row is None or row.get("ready_at") is None:
            continue
        # A request may have waited for its server: that is no work of the server's.
        begin, end = max(started, row["ready_at"].timestamp()), started + (latency_ms or 0.0) / 1000
        if row.get("ended_at") is not None:
            end = min(end, row["ended_at"].timestamp())
        if end > begin:
            found[server_id, life].append((begin, end))
    return {key: merged(intervals) for key, intervals in found.items()}


def _requests(paths: Paths, pair: Pair) -> Iterator[tuple[str, int, float, float | None]]:
    """Server, life, start and latency of each request: from the partition, or, of an evaluation that has
    none, from its gateway's log."""
    if paths.requests(*pair).exists() and paths.evaluation(*pair).exists():
        yield from _of_partition(paths, pair)
        return
    for folder in sorted((paths.results / "work" / pair[0] / pair[1]).glob("*/gateway")):
        try:
            for record in gateway_log.read(folder):
                if record.server_id is not None and record.life is not None:
                    yield record.server_id, record.life, record.started_at, record.latency_ms
        except (OSError, SlurmevalError):
            continue


def _of_partition(paths: Paths, pair: Pair) -> Iterator[tuple[str, int, float, float | None]]:
    try:
        with pq.ParquetFile(paths.requests(*pair)) as file:
            for batch in file.iter_batches(_ROWS, columns=_COLUMNS, use_threads=False):
                columns = [batch.column(name) for name in _COLUMNS]
                columns[2] = columns[2].cast(pa.int64())
                for server_id, life, started_us, latency in zip(
                    *(c.to_pylist() for c in columns), strict=True
                ):
                    if server_id is not None and life is not None:
                        yield server_id, life, started_us / 1e6, latency
    except (OSError, pa.ArrowInvalid):
        return  # `aggregate` says of the evaluation that it cannot be read
