"""Recovered fractions of activation patching, over the pairs of an evaluation."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from slurmeval.harnesses.patching.harness import cells_of
from slurmeval.statistics.intervals import student_t


@dataclass(frozen=True)
class PatchedCell:
    """What patching one place recovers, on average over pairs."""

    layer: int
    place: str
    """The position, counted from the end, with the token that stands there; or the head; or both."""
    mean: float
    low: float | None
    """Ends of the 95 % interval over pairs (Student's t); None: of one pair alone."""
    high: float | None
    n: int


@dataclass(frozen=True)
class PatchedSite:
    """All cells of what was patched, such as `resid`; `best` recovers most."""

    site: str
    cells: list[PatchedCell]
    places: list[str]
    """The places of all cells, in their order."""

    @property
    def best(self) -> PatchedCell:
        """Returns the cell that recovers most."""
        return max(self.cells, key=lambda cell: cell.mean)


def read(samples: Path) -> list[PatchedSite]:
    """Returns what was patched in the evaluation whose samples these are."""
    column = pq.read_table(samples, columns=["metadata_json"])["metadata_json"].to_pylist()
    lines = [line for line in (json.loads(text or "{}") for text in column) if line.get("cells")]
    sites = dict.fromkeys(site for line in lines for site in line["cells"])
    return [_site(site, lines) for site in sites]


def _site(site: str, lines: list[dict[str, Any]]) -> PatchedSite:
    tokens = max((line["tokens"] for line in lines), key=len)
    found, places = [], {}
    for (layer, *rest), values in sorted(cells_of(lines, site).items()):
        place = f"head {rest[0]}" if site == "heads" else f"{rest[0]} {tokens[rest[0]].strip() or '␣'}"
        if len(rest) > 1:
            place += f", head {rest[1]}"
        places[tuple(rest)] = place
        mean, half = statistics.fmean(values), None
        if len(values) > 1:
            half = student_t(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
        low, high = (None, None) if half is None else (mean - half, mean + half)
        found.append(PatchedCell(layer, place, mean, low, high, len(values)))
    return PatchedSite(site, found, [place for _, place in sorted(places.items())])
