"""Profiles: each model's mean by dimension (`benchmarks.<id>.dimension`) and by suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slurmeval.report.chart import chart
from slurmeval.report.material import ReportSection
from slurmeval.report.tables import ScoreCell
from slurmeval.results.leaderboard import standing

if TYPE_CHECKING:
    from slurmeval.report.board import Board
    from slurmeval.report.material import Material


@dataclass(frozen=True)
class Profile:
    """The models' means over some benchmarks."""

    name: str
    kind: str
    """`dimension` or `suite`."""
    benchmarks: tuple[str, ...]
    """Those that the mean is over."""
    left_out: tuple[str, ...]
    """Those whose scores are no proportions, or of which less is better and of others more."""
    less_is_better: bool
    scores: Mapping[str, ScoreCell]
    """By model; one that lacks a benchmark has none."""


def section(material: Material) -> ReportSection | None:
    """Returns the section; None: the config names no dimension, and no suite that is a part of the run."""
    config, board = material.config, material.board
    if config is None or board is None:
        return None
    there = material.run.benchmarks
    groups: dict[tuple[str, str], list[str]] = {}
    for name in there:
        entry = config.benchmarks.get(name)
        if entry is not None and entry.dimension is not None:
            groups.setdefault(("dimension", entry.dimension), []).append(name)
    for suite, names in config.suites.items():
        own = [name for name in names if name in there]
        if own and len(own) < len(there):
            groups["suite", suite] = own
    found = [
        _profile(kind, name, names, board, material.run.models) for (kind, name), names in groups.items()
    ]
    profiles = [each for each in found if each.scores]
    if not profiles:
        return None
    cells = [score for each in profiles for score in each.scores.values()]
    models = [name for name in board.board.models if any(name in each.scores for each in profiles)]
    return ReportSection(
        "dimensions", "Profile", {"profiles": profiles, "models": models, "chart": chart(cells)}
    )


def _profile(kind: str, name: str, names: Sequence[str], board: Board, models: Sequence[str]) -> Profile:
    entries = board.board.entries
    averaged = tuple(each for each in names if each in board.board.averaged)
    lower = not averaged and all(board.less_is_better(each) for each in names)
    averaged = tuple(names) if lower else averaged
    scores = {}
    for model in models:
        found = standing(model, averaged, entries) if averaged else None
        if found is None or found.mean is None:
            continue
        ends = (found.interval.low, found.interval.high) if found.interval else (None, None)
        label = f"{name} ({kind})"
        scores[model] = ScoreCell(
            model, label, "ok", value=found.mean, se=found.se, ci_lo=ends[0], ci_hi=ends[1]
        )
    left_out = tuple(each for each in names if each not in averaged)
    return Profile(name, kind, averaged, left_out, lower, scores)
