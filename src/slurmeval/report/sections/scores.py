"""The leaderboard, with its chart."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from slurmeval.report import board as boards
from slurmeval.report.chart import chart
from slurmeval.report.material import ReportSection
from slurmeval.report.usage import usage
from slurmeval.results import reasoning

if TYPE_CHECKING:
    from slurmeval.report.board import Board
    from slurmeval.report.material import Material
    from slurmeval.report.tables import Tables

CHART = "scores.svg"
"""The chart as a file of its own, for papers."""


def section(material: Material) -> ReportSection:
    """Returns the section."""
    run, board = material.run, material.board
    models = run.models if board is None else list(board.board.models)
    by_model = len(run.benchmarks) <= boards.MAX_BENCHMARKS or len(models) >= len(run.benchmarks)
    shown = [run.scores[key] for key in itertools.product(models, run.benchmarks) if key in run.scores]
    return ReportSection(
        "scores",
        "Scores",
        {
            "board": board,
            "usage": usage(run),
            "down": models if by_model else run.benchmarks,
            "across": run.benchmarks if by_model else models,
            "by_model": by_model,
            "full": board is not None,
            "notes": _notes(run, board),
            "means": bool(board and board.board.standings),
            "warnings": [line for row in run.of_status("ok") if (line := reasoning.warning(row)) is not None],
            "chart": chart(shown),
            "sample_links": material.samples.links,
            "saved_chart": CHART,
        },
    )


def _notes(run: Tables, board: Board | None) -> dict[str, str]:
    """Returns each benchmark's primary metric, as its first score says, and its settings."""
    names: dict[str, str] = {}
    for score in run.scores.values():
        if score.metric is not None:
            parts = f", mean of {len(score.mean_of)} tasks" if score.mean_of else ""
            names.setdefault(score.benchmark, score.metric + parts)
    if board is not None:
        return {name: "; ".join(filter(None, [text, board.asked.get(name)])) for name, text in names.items()}
    return names
