"""The leaderboard, with its chart."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from slurmeval.report import board as boards
from slurmeval.report import rendering
from slurmeval.report.chart import chart
from slurmeval.report.material import ReportSection
from slurmeval.report.usage import usage
from slurmeval.results import reasoning
from slurmeval.statistics.pairs import Verdict
from slurmeval.wording import p_value, signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurmeval.report.board import Board
    from slurmeval.report.material import Material
    from slurmeval.report.tables import Tables
    from slurmeval.results.matrix import Cell, Matrix

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
            "answer": _answer(material.matrices),
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


def _answer(matrices: Sequence[Matrix]) -> str:
    """Returns which model leads by the mean or on the only benchmark, by how much, and whether it is sure."""
    matrix = next((each for each in matrices if each.benchmark is None and each.suite is None), None)
    matrix = matrices[0] if matrix is None and len(matrices) == 1 else matrix
    if matrix is None:
        return ""
    best, *others = matrix.models
    cells = {other: matrix.cell(best, other) for other in others}
    compared = {other: cell for other, cell in cells.items() if cell is not None and cell.value is not None}
    if not others or len(compared) < len(others):
        return ""
    behind = [other for other, cell in compared.items() if cell.verdict is Verdict.BETTER and cell.sure]
    level = [other for other in others if other not in behind]
    n = compared[others[0]].n
    on = f"on {matrix.benchmark}" if matrix.benchmark else f"by the mean of {n} benchmarks"
    if not level:
        return f"{best} is best {on}: {_by(others[0], compared[others[0]], len(matrix.cells))}."
    if behind:
        return f"{best} leads {on}, but cannot be told from {_listed(level)}; behind: {_listed(behind)}."
    least = matrix.detectable
    seen = f": differences below {rendering.score(least[0])} could hardly be seen" if least else ""
    return f"{best} leads {on}, but no other model can be told from it{seen}."


def _by(other: str, cell: Cell, n_pairs: int) -> str:
    """Returns the difference to the next model, in words."""
    assert cell.value is not None and cell.p_holm is not None
    parts = [f"{signed(cell.value)} against {other}, the next"]
    if cell.interval is not None:
        low, high = signed(cell.interval.low), signed(cell.interval.high)
        parts.append(f"95 % interval {low} … {high}")
    p = p_value(cell.p_holm).replace(" ", "\u00a0")
    parts.append(p + (f" (Holm, {n_pairs} pairs)" if n_pairs > 1 else ""))
    return ", ".join(parts) + (f" ({cell.remark})" if cell.remark else "")


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


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
