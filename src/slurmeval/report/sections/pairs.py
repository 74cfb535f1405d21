"""All pairs of models: as many matrices as a page can hold, and what they say in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurmeval.report import samples
from slurmeval.report.material import ReportSection
from slurmeval.results.matrix import Cell, Matrix, matrices
from slurmeval.statistics.intervals import LEVEL, normal_quantile
from slurmeval.statistics.pairs import Verdict
from slurmeval.statistics.power import POWER
from slurmeval.wording import p_value, signed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurmeval.paths import Paths
    from slurmeval.report.material import Material
    from slurmeval.report.tables import Tables
    from slurmeval.results.doubts import Doubts

MAX_CELLS = 4000
"""Cells on the first page, in all matrices together; `slurmeval compare` has the others."""


ALPHAS = (0.1, 0.05, 0.01, 0.001)
"""What p may be held against in the page."""


def section(material: Material) -> ReportSection | None:
    """Returns the section; None: there are no pairs."""
    if not material.matrices and not material.left_out:
        return None
    own = 1 - LEVEL
    alphas = [(alpha, _quantiles(alpha) / _quantiles(own), abs(alpha - own) < 1e-9) for alpha in ALPHAS]
    values = {
        "matrices": material.matrices,
        "left_out": material.left_out,
        "link": samples.link,
        "alphas": alphas,
    }
    return ReportSection("pairs", "Pairs", values)


def _quantiles(alpha: float) -> float:
    """Returns the smallest detectable difference at this level, in standard errors."""
    return normal_quantile(1 - alpha / 2) + normal_quantile(POWER)


def shown(
    paths: Paths, run: Tables, suites: Mapping[str, Sequence[str]], doubts: Doubts
) -> tuple[list[Matrix], list[str]]:
    """Returns the matrices for the page, and the benchmarks that are left out because they do not fit.

    `doubts` keeps what the answers say that are read for them.
    """
    per_benchmark: dict[str, int] = dict.fromkeys(run.benchmarks, 0)
    for row in run.of_status("ok"):
        per_benchmark[row["benchmark"]] += 1
    fit: list[str] = []
    left_out: list[str] = []
    known = run.benchmarks
    parts = [names for names in suites.values() if 1 < sum(name in known for name in names) < len(known)]
    cells = len(run.models) ** 2 * (1 + len(parts))
    for benchmark, models in per_benchmark.items():
        cells += models**2 if models > 1 else 0
        (fit if models < 2 or cells <= MAX_CELLS else left_out).append(benchmark)
    found = matrices(paths.results, fit, suites=suites, read=doubts.read) if fit else []
    if left_out:  # means would be of those that fit
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
