"""The matrices of all pairs of models, as many as a page can hold, and what they say in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurmeval.report.rendering import p_value, signed
from slurmeval.results.matrix import Cell, Matrix, matrices
from slurmeval.statistics.pairs import Verdict

if TYPE_CHECKING:
    from slurmeval.paths import Paths
    from slurmeval.report.tables import Tables

MAX_CELLS = 4000
"""Cells on the first page, in all matrices together; `slurmeval compare` has the others."""


def shown(paths: Paths, run: Tables) -> tuple[list[Matrix], list[str]]:
    """Returns the matrices for the page, and the benchmarks that are left out because they do not fit."""
    per_benchmark: dict[str, int] = dict.fromkeys(run.benchmarks, 0)
    for row in run.of_status("ok"):
        per_benchmark[row["benchmark"]] += 1
    fit: list[str] = []
    left_out: list[str] = []
    cells = len(run.models) ** 2
    for benchmark, models in per_benchmark.items():
        cells += models**2 if models > 1 else 0
        (fit if models < 2 or cells <= MAX_CELLS else left_out).append(benchmark)
    found = matrices(paths.results, fit) if fit else []
    if left_out:  # the mean would be of those that fit
        found = [matrix for matrix in found if matrix.benchmark is not None]
    return found, left_out


def sentences(found: list[Matrix]) -> dict[str, dict[str, str]]:
    """Returns what stands above two models' samples, by benchmark and the models' ids with a tab between."""
    return {
        matrix.benchmark: {
            f"{a}\t{b}": _sentence(a, b, cell, matrix)
            for pair, seen in matrix.cells.items()
            for (a, b), cell in ((pair, seen), (pair[::-1], seen.reversed))
        }
        for matrix in found
        if matrix.benchmark is not None
    }


def _sentence(a: str, b: str, cell: Cell, matrix: Matrix) -> str:
    remark = f" ({cell.remark})" if cell.remark else ""
    if cell.value is None:
        return f"{a} and {b} are not compared{remark}."
    verdicts = {
        Verdict.BETTER: f"{a} is better",
        Verdict.WORSE: f"{b} is better",
        Verdict.EQUIVALENT: "They are equivalent",
        Verdict.CANNOT_TELL: "They cannot be told apart",
    }
    parts = [f"{a} − {b} is {signed(cell.value)} {matrix.metric} on {cell.n:,} questions"]
    if cell.interval is not None:
        parts.append(f"95 % interval {signed(cell.interval.low)} … {signed(cell.interval.high)}")
    if cell.p_holm is not None:
        pairs = "pair" if len(matrix.cells) == 1 else "pairs"
        parts.append(f"{p_value(cell.p_holm)} (Holm, {len(matrix.cells)} {pairs})")
    return f"{verdicts[cell.verdict]}: {', '.join(parts)}{remark}."
