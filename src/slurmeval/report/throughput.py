"""How many tokens a model's servers generated over time, and how long the tails of their work were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slurmeval.results import schema
from slurmeval.results.partitions import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from slurmeval.paths import Paths
    from slurmeval.report.tables import Row

MOST_SPANS, LEAST_SPANS = 240, 20
"""Spans of equal length that a model's time is cut into: one for every ten requests, within these."""
_COLUMNS = ["started_at", "latency_ms", "completion_tokens"]


@dataclass(frozen=True)
class Throughput:
    """One model's requests over time, cut into equal spans."""

    begin_s: float
    """Seconds since 1970."""
    span_s: float
    tokens_per_s: NDArray[np.float64]
    """Generated tokens, by the end of their answer."""
    in_flight: NDArray[np.float64]
    """Mean number of requests at the servers."""

    @property
    def tail_s(self) -> float:
        """How long the end took: from when half of the most requests were in flight for the last time."""
        full = np.flatnonzero(self.in_flight >= self.in_flight.max() / 2)
        return float((len(self.in_flight) - 1 - full[-1]) * self.span_s)


def of_model(paths: Paths, evaluations: list[Row]) -> Throughput | None:
    """Returns the throughput of a model's evaluations; None: no request was answered.

    One model's requests are in memory, 24 bytes each.
    """
    tables = [*_requests(paths, evaluations)]
    if not tables:
        return None
    begin, length, tokens = (np.concatenate(each) for each in zip(*tables, strict=True))
    if not len(begin):
        return None
    end = begin + length
    n_spans = min(MOST_SPANS, max(LEAST_SPANS, len(begin) // 10))
    edges = np.linspace(begin.min(), end.max(), n_spans + 1)
    span_s = float(edges[1] - edges[0])
    if span_s <= 0:
        return None
    made = np.histogram(end, edges, weights=tokens)[0]
    flown = np.diff(_integral(edges, begin) - _integral(edges, end))
    return Throughput(float(edges[0]), span_s, made / span_s, flown / span_s)


def _requests(paths: Paths, evaluations: list[Row]) -> Iterator[tuple[NDArray[np.float64], ...]]:
    for row in evaluations:
        file = paths.requests(row["model"], row["benchmark"])
        if not file.exists():
            continue
        found = read_rows(file, schema.REQUESTS, _COLUMNS)
        found = found.filter(pc.and_(pc.is_valid(found["started_at"]), pc.is_valid(found["latency_ms"])))
        begin = found["started_at"].cast(pa.int64()).to_numpy() / 1e6
        tokens = pc.fill_null(found["completion_tokens"], 0).to_numpy().astype(float)
        yield begin, found["latency_ms"].to_numpy() / 1e3, tokens


def _integral(edges: NDArray[np.float64], since: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the sum of max(0, edge − since) for each edge."""
    ordered = np.sort(since)
    sums = np.concatenate([[0.0], np.cumsum(ordered - edges[0])])
    past = np.searchsorted(ordered, edges, side="right")
    return np.asarray(past * (edges - edges[0]) - sums[past])
