"""When evaluations had requests at servers, in arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slurmeval.errors import SlurmevalError
from slurmeval.gateway import log as gateway_log
from slurmeval.results.gpu_time import Groups, Times, merged

if TYPE_CHECKING:
    from slurmeval.paths import Paths

Pair = tuple[str, str]
EngineRunId = tuple[str, int]
"""A server and the number of its engine run."""

GAP_US = 50_000
"""Shorter pauses between a harness's requests are its own work, and part of what it asked for."""

_COLUMNS = ("server_id", "engine_run", "started_at", "latency_ms")


@dataclass(frozen=True)
class InFlight:
    """The intervals of one evaluation, in microseconds since 1970; `engine_run` counts in `engine_runs`."""

    engine_runs: list[EngineRunId]
    begin: Times
    end: Times
    engine_run: Groups


def of_evaluation(paths: Paths, pair: Pair) -> InFlight:
    """Reads the partition, or, of an evaluation that has none, its gateway's log.

    What cannot be read counts as nothing: `aggregate` says so of the evaluation.
    """
    if paths.requests(*pair).exists() and paths.evaluation(*pair).exists():
        try:
            return _of_table(pq.read_table(paths.requests(*pair), columns=list(_COLUMNS), partitioning=None))
        except (OSError, pa.ArrowInvalid, KeyError):
            return _of_table(_table([]))
    return _of_table(_table(_logged(log_segments(paths, pair))))


def log_segments(paths: Paths, pair: Pair) -> list[Path]:
    """The segments of all logs of an evaluation's gateways."""
    folders = sorted((paths.results / "work" / pair[0] / pair[1]).glob("*/gateway"))
    return [segment for folder in folders for segment in gateway_log.segments(folder)]


def _logged(segments: Iterable[Path]) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    for segment in segments:
        try:
            for _, record in gateway_log.exchanges(segment):
                rows.append(
                    {
                        "server_id": record.server_id,
                        "engine_run": record.engine_run,
                        "started_at": int(record.sent_at * 1e6),
                        "latency_ms": record.server_ms,
                    }
                )
        except (OSError, SlurmevalError):
            continue
    return rows


def _table(rows: list[Mapping[str, Any]]) -> pa.Table:
    kinds = (pa.string(), pa.int64(), pa.int64(), pa.float64())
    return pa.Table.from_pylist(rows, pa.schema(list(zip(_COLUMNS, kinds, strict=True))))


def _of_table(table: pa.Table) -> InFlight:
    known = pc.and_(pc.is_valid(table["server_id"]), pc.is_valid(table["engine_run"]))
    table = table.filter(known).combine_chunks()
    servers = table["server_id"].dictionary_encode().combine_chunks()
    names = servers.dictionary.to_pylist() if len(table) else []
    server = servers.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    number = table["engine_run"].to_numpy().astype(np.int64)
    begin = table["started_at"].cast(pa.int64()).to_numpy().astype(np.int64)
    latency = np.nan_to_num(table["latency_ms"].to_numpy().astype(np.float64))
    end = begin + (latency * 1000).astype(np.int64)
    most = int(number.max(initial=0)) + 1
    keys, engine_run = np.unique(server * most + number, return_inverse=True)
    engine_runs = [(names[key // most], int(key % most)) for key in keys.tolist()]
    return InFlight(engine_runs, *merged(begin, end, engine_run.astype(np.int64), GAP_US))
