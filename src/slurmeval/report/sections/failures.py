"""What went wrong: evaluations that failed, by kind, with the ends of their logs; requests without answer."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from slurmeval.report.material import ReportSection
from slurmeval.report.usage import job_words
from slurmeval.results import schema
from slurmeval.results.partitions import read_rows

if TYPE_CHECKING:
    from slurmeval.paths import Paths
    from slurmeval.report.material import Material
    from slurmeval.report.tables import Row

MAX_ROWS = 500
MAX_KINDS = 30
EXCERPT_LINES = 15
_EXCERPT_BYTES = 4_000
_MAX_EXCERPTS = 50
"""Failures whose log's end is on the page; with more, those of each kind that come first."""
_VARYING = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{12,}\b|\d+")


@dataclass(frozen=True)
class Unanswered:
    """Requests without an answer, of one kind."""

    status: int | None
    error: str
    """What went wrong, of the first; the others differ in numbers at most."""
    count: int
    where: tuple[tuple[str, str], ...]
    """Models and benchmarks, most often first."""


def section(material: Material) -> ReportSection | None:
    """Returns the section; None: nothing went wrong and nothing is missing."""
    run, paths = material.run, material.paths
    failed, missing = run.of_status("failed"), run.of_status("missing")
    unanswered = _unanswered(paths, run.of_status("ok"))
    if not failed and not missing and not unanswered:
        return None
    kinds: dict[str, list[Row]] = defaultdict(list)
    for row in failed:
        kinds[row["error_class"] or "failed"].append(row)
    ordered = dict(sorted(kinds.items(), key=lambda item: -len(item[1])))
    each = max(1, _MAX_EXCERPTS // max(1, len(ordered)))
    shown = {(row["model"], row["benchmark"]): row for rows in ordered.values() for row in rows[:each]}
    excerpts = {key: text for key, row in shown.items() if (text := excerpt(paths, row["log"]))}
    values = {
        "kinds": ordered,
        "missing": missing,
        "unanswered": unanswered[:MAX_KINDS],
        "n_more_kinds": max(0, len(unanswered) - MAX_KINDS),
        "excerpts": excerpts,
        "max_rows": MAX_ROWS,
        "job_words": job_words,
    }
    return ReportSection("failures", "Failures", values)


def excerpt(paths: Paths, log: str | None) -> str | None:
    """Returns the last lines of a log of this run; None: there is none, or it lies elsewhere."""
    if log is None:
        return None
    file = (paths.results / log).resolve()
    if not file.is_relative_to(paths.results.resolve()):
        return None
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - _EXCERPT_BYTES))
            text = stream.read().decode(errors="replace")
    except OSError:
        return None
    return "\n".join(text.rstrip().splitlines()[-EXCERPT_LINES:]) or None


def _unanswered(paths: Paths, ended: list[Row]) -> list[Unanswered]:
    counts: dict[tuple[int | None, str], Counter[tuple[str, str]]] = defaultdict(Counter)
    first: dict[tuple[int | None, str], str] = {}
    for row in ended:
        pair = row["model"], row["benchmark"]
        file: Path = paths.requests(*pair)
        if not (row["n_unanswered"] or row["n_errored"]) or not file.exists():
            continue
        rows = read_rows(file, schema.REQUESTS, ["http_status", "error"])
        rows = rows.filter(pc.is_valid(rows["error"]))
        for status, error in zip(*(column.to_pylist() for column in rows.columns), strict=True):
            kind = (status, _VARYING.sub("#", error))
            counts[kind][pair] += 1
            first.setdefault(kind, error)
    found = [
        Unanswered(status, first[status, words], each.total(), tuple(key for key, _ in each.most_common()))
        for (status, words), each in counts.items()
    ]
    return sorted(found, key=lambda kind: -kind.count)
