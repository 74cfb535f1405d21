"""How long evaluations and servers took in earlier runs, out of the results of a project folder.

Tables are read by the columns that are needed, whatever version wrote them: a forecast is no result. What
cannot be read, or is not there, is no history.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmeval.errors import ErrorClass

if TYPE_CHECKING:
    from slurmeval.paths import Paths

MOST_PARTITIONS = 200
"""Partitions of evaluations that are read where the table over all of them does not have them (its run was
killed): a plan must not take long because history is long."""

_US = 1_000_000
_TABLE = ("status", "error_class", "started_at", "ended_at", "limit", "n_repeats", "n_samples")
EVALUATION_COLUMNS = ("model", "benchmark", *_TABLE, "n_requests", "n_replayed")
SERVER_COLUMNS = ("model", "submitted_at", "started_at", "ready_at", "ended_at", "job_ended_at", "starting_s")


@dataclass(frozen=True)
class Past:
    """One evaluation of an earlier run. Times are seconds since 1970."""

    began: float
    """When its server answered."""
    ended: float
    limit: int | None
    repeats: int
    samples: int | None
    done: bool
    """False: it ran into its time limit."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


@dataclass(frozen=True)
class Served:
    """One engine run of a server, from the first answer on. Times are seconds since 1970."""

    ready: float
    ended: float
    starting_s: float


class History:
    """What is known of earlier runs, for some benchmarks on whatever model. Read when it is first asked."""

    def __init__(
        self, paths: Paths, benchmarks: Collection[str], server_of: Callable[[str, str], str]
    ) -> None:
        """`server_of`: the model whose server an evaluation (model, benchmark) asks."""
        self._paths = paths
        self._server_of = server_of
        self._wanted = frozenset(benchmarks)
        self._evaluations: dict[str, dict[str, Past]] | None = None
        self._served: dict[str, list[Served]] | None = None

    @property
    def evaluations(self) -> dict[str, dict[str, Past]]:
        """By benchmark, then by model."""
        if self._evaluations is None:
            self._evaluations = defaultdict(dict)
            for row in self._rows():
                server = self._server_of(row["model"], row["benchmark"])
                past = _past(row, self.served.get(server, []))
                if past is not None:
                    self._evaluations[row["benchmark"]][row["model"]] = past
        return self._evaluations

    @property
    def served(self) -> dict[str, list[Served]]:
        """By model, in the order of time."""
        if self._served is None:
            found: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for row in _read(self._paths.all_servers, SERVER_COLUMNS):
                if row["started_at"] is not None and row["ready_at"] is not None:
                    found[row["model"]].append(row)
            self._served = {model: list(_in_order(rows)) for model, rows in found.items()}
        return self._served

    def starting_s(self, model: str) -> float | None:
        """How long a server of this model took from its start to the first answer: the median."""
        served = self.served.get(model)
        return statistics.median(span.starting_s for span in served) if served else None

    def _rows(self) -> Iterator[dict[str, Any]]:
        known = set()
        for row in _read(self._paths.all_evaluations, EVALUATION_COLUMNS):
            if row["benchmark"] in self._wanted:
                if row["status"] == "ok":
                    known.add((row["model"], row["benchmark"]))
                yield row
        left = MOST_PARTITIONS
        for file in self._paths.evaluation("*", "*").parent.parent.glob("*/*.parquet"):
            pair = (file.parent.name, file.stem)
            if file.stem in self._wanted and pair not in known and left:
                left -= 1
                yield from _read(file, EVALUATION_COLUMNS)


def _read(file: Path, columns: Iterable[str]) -> list[dict[str, Any]]:
    """The rows, times as microseconds; what the file does not have is None.

    Empty where it is missing or broken.
    """
    if not file.exists():
        return []
    import pyarrow as pa  # a plan without history does without
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as stream:
            table = stream.read(columns=list(columns), use_threads=False)
        arrays = [
            column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in table
        ]
        rows: list[dict[str, Any]] = pa.Table.from_arrays(arrays, table.column_names).to_pylist()
    except (OSError, pa.ArrowException):
        return []
    return [dict.fromkeys(columns) | row for row in rows]


def _in_order(rows: list[dict[str, Any]]) -> Iterator[Served]:
    """An engine run whose end nobody wrote down had ended when the next was asked for."""
    rows.sort(key=lambda row: row["started_at"])
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        ended = row["ended_at"] or row["job_ended_at"]
        if ended is None and following is not None:
            submitted, started = following["submitted_at"], following["started_at"]
            ended = submitted if submitted and submitted > row["ready_at"] else started
        starting = row["starting_s"] or (row["ready_at"] - row["started_at"]) / _US
        yield Served(
            row["ready_at"] / _US, float("inf") if ended is None else ended / _US, max(0.0, starting)
        )


def _past(row: dict[str, Any], served: Iterable[Served]) -> Past | None:
    """Returns what a row says of an earlier evaluation.

    None where it says nothing of how long the evaluation takes: it failed, or most of its answers came
    from an earlier try's log.
    """
    timed_out = row["error_class"] == ErrorClass.TIME_LIMIT
    if row["started_at"] is None or row["ended_at"] is None or not (row["status"] == "ok" or timed_out):
        return None
    if (row["n_replayed"] or 0) * 2 > (row["n_requests"] or 0):
        return None
    ended = row["ended_at"] / _US
    began = _answered(row["started_at"] / _US, ended, served)
    return Past(began, ended, row["limit"], row["n_repeats"] or 1, row["n_samples"], not timed_out)


def _answered(began: float, ended: float, served: Iterable[Served]) -> float:
    """When an evaluation that waited from `began` had a server: servers start when evaluations wait."""
    later = []
    for span in served:
        if span.ready <= began < span.ended:
            return began
        if began < span.ready < ended:
            later.append(span.ready)
    return min(later, default=began)
