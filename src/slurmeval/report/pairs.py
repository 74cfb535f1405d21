"""The matrices of all pairs of models, as many as a page can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurmeval.results.matrix import Matrix, matrices

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
    several = [benchmark for benchmark, models in per_benchmark.items() if models > 1]
    fit: list[str] = []
    left_out: list[str] = []
    cells = len(run.models) ** 2
    for benchmark in several:
        cells += per_benchmark[benchmark] ** 2
        (fit if cells <= MAX_CELLS else left_out).append(benchmark)
    found = matrices(paths.results, fit) if fit else []
    if left_out:  # the mean would be of those that fit
        found = [matrix for matrix in found if matrix.benchmark is not None]
    return found, left_out
