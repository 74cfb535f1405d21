"""All pairs of a run's models: on each benchmark, and on the mean over benchmarks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from slurmeval.results.comparison import (
    MIN_PAIRED,
    BenchmarkComparison,
    averaged,
    compare_benchmark,
    ended_well,
    mean_difference,
    primary_metrics,
    restored,
    settings_of,
)
from slurmeval.results.kept import Kept, fingerprint, hashed
from slurmeval.results.questions import QuestionOrder, QuestionScores, Row, read_answers, samples_of
from slurmeval.results.sharing import Sharing, sharing
from slurmeval.statistics import families, power
from slurmeval.statistics.intervals import LEVEL, normal_quantile
from slurmeval.statistics.pairs import Verdict

if TYPE_CHECKING:
    import pyarrow as pa

    from slurmeval.statistics.families import Pair
    from slurmeval.statistics.intervals import Interval


@dataclass(frozen=True)
class Cell:
    """Two models, A − B, on one benchmark or on the mean over several."""

    verdict: Verdict
    """What it says of A, whichever way the metric goes."""
    value: float | None = None
    """None: they were not compared."""
    interval: Interval | None = None
    p_value: float | None = None
    p_holm: float | None = None
    """The p-value, corrected for the number of pairs of models."""
    wins: int | None = None
    """Questions that A alone has right; of a mean, benchmarks on which A is better. None: not countable."""
    losses: int | None = None
    n: int = 0
    """Questions that both answered; of a mean, its benchmarks."""
    detectable: float | None = None
    remark: str | None = None
    """Why they were not compared, or what stands in the way of it."""

    @property
    def sure(self) -> bool:
        """Whether they differ even if one counts how many pairs were looked at."""
        return self.p_holm is not None and self.p_holm < 1 - LEVEL

    @property
    def reversed(self) -> Cell:
        """The same pair, B − A."""
        interval = self.interval
        return replace(
            self,
            verdict=self.verdict.reversed,
            value=None if self.value is None else -self.value,
            interval=interval and replace(interval, low=-interval.high, high=-interval.low),
            wins=self.losses,
            losses=self.wins,
        )


@dataclass(frozen=True)
class Matrix:
    """All pairs of models on one benchmark, or on the mean over benchmarks."""

    benchmark: str | None
    """None: the mean."""
    metric: str
    higher_is_better: bool
    models: tuple[str, ...]
    """Best first."""
    cells: Mapping[Pair, Cell]
    """Each pair once, in the order of the run."""
    suite: str | None = None
    """The suite whose benchmarks the mean is over; None: it is over all, or this is one benchmark."""

    def cell(self, a: str, b: str) -> Cell | None:
        """Returns A − B; None: one of them has no result."""
        if (a, b) in self.cells:
            return self.cells[a, b]
        other = self.cells.get((b, a))
        return other and other.reversed

    @property
    def detectable(self) -> tuple[float, float] | None:
        """Smallest differences that the questions show with 80 % power, from the best pair to the worst."""
        found = [cell.detectable for cell in self.cells.values() if cell.detectable is not None]
        return (min(found), max(found)) if found else None


def matrices(
    results: Path,
    benchmarks: Sequence[str],
    margin: float = 0.0,
    min_paired: float = MIN_PAIRED,
    suites: Mapping[str, Sequence[str]] | None = None,
    read: Callable[[Row], pa.Table] | None = None,
) -> list[Matrix]:
    """Compares all pairs of models of a results folder; the mean comes first if there are several benchmarks.

    Means over the benchmarks of single suites come next: of those `suites` that are more than one of these
    benchmarks and not all. `read` returns the answers to a metric's questions, and is asked for each at most
    once: not where pairs are kept. Evaluations without samples are left out. One benchmark's questions are in
    memory at a time.

    Raises:
        SchemaDrift: The results are of another version.
    """
    ended, primary = ended_well(results), primary_metrics(results)
    order = list(dict.fromkeys(model for model, _ in ended))
    compared: dict[str, dict[Pair, BenchmarkComparison]] = {}
    answered: list[str] = []
    for benchmark in benchmarks:
        rows = [
            row for (_, of), row in ended.items() if of == benchmark and samples_of(results, row).is_file()
        ]
        answered += [benchmark] if rows else []
        if len(rows) > 1:
            compared[benchmark] = _pairs(results, rows, primary, margin, min_paired, read)
    found = [_of_benchmark(benchmark, pairs, order) for benchmark, pairs in compared.items()]
    if len(found) < 2:
        return found
    shared = sharing(results, [pair for pair in ended if pair[1] in compared])
    means = _mean(compared, order, margin, len(answered), shared)
    for suite, names in (suites or {}).items():
        own = {name: pairs for name, pairs in compared.items() if name in names}
        if 1 < len(own) < len(compared):
            n_own = sum(name in names for name in answered)
            means += [replace(mean, suite=suite) for mean in _mean(own, order, margin, n_own, shared)]
    return [*means, *found]


def _pairs(
    results: Path,
    rows: Sequence[Row],
    primary: dict[Pair, Row],
    margin: float,
    min_paired: float,
    read: Callable[[Row], pa.Table] | None,
) -> dict[Pair, BenchmarkComparison]:
    benchmark, order = rows[0]["benchmark"], QuestionOrder()
    kept = Kept(results, f"pairs/{benchmark}")
    asked = {row["model"]: _fingerprint(results, row, primary) for row in rows}

    @cache
    def questions(model: str) -> QuestionScores:
        metric = primary[model, benchmark]
        return order.questions_of(read_answers(results, metric) if read is None else read(metric))

    def compared(a: Row, b: Row) -> BenchmarkComparison:
        name = f"{a['model']} {b['model']}"
        of = f"{asked[a['model']]} {asked[b['model']]} {margin} {min_paired}"
        known = kept.get(name, of)
        if known is not None:
            return restored(known)
        found = compare_benchmark(
            (a, b), primary, lambda metric: questions(metric["model"]), margin, min_paired
        )
        kept.put(name, of, found)
        return found

    found = {(a["model"], b["model"]): compared(a, b) for a, b in itertools.combinations(rows, 2)}
    kept.save()
    return found


def _fingerprint(results: Path, row: Row, primary: dict[Pair, Row]) -> str:
    """Returns what tells all that a comparison reads of an evaluation from any other."""
    metric = primary.get((row["model"], row["benchmark"]))
    return hashed([fingerprint([samples_of(results, row)], metric), settings_of(row)])


def _of_benchmark(benchmark: str, pairs: Mapping[Pair, BenchmarkComparison], order: list[str]) -> Matrix:
    cells = _with_holm({pair: _cell(each) for pair, each in pairs.items()})
    first = next(iter(pairs.values()))
    sign = 1 if first.higher_is_better else -1
    models = _best_first(cells, order, sign)
    return Matrix(benchmark, first.metric, first.higher_is_better, models, cells)


def _cell(compared: BenchmarkComparison) -> Cell:
    found = compared.difference
    remark = compared.refusal or (found.refusal if found else None)
    if compared.settings:
        remark = "; ".join(filter(None, [remark, f"not run alike: {', '.join(compared.settings)}"]))
    if found is None:
        return Cell(Verdict.CANNOT_TELL, n=compared.certificate.paired, remark=remark)
    counts = (found.a_only, found.b_only)
    wins, losses = counts if compared.higher_is_better else counts[::-1]
    return Cell(
        verdict=compared.verdict,
        value=found.value,
        interval=found.interval,
        p_value=found.p_value,
        wins=wins,
        losses=losses,
        n=found.n,
        detectable=found.detectable,
        remark=remark,
    )


def _mean(
    compared: Mapping[str, Mapping[Pair, BenchmarkComparison]],
    order: list[str],
    margin: float,
    n_all: int,
    shared: Sharing,
) -> list[Matrix]:
    """Returns the matrix of mean differences; empty if no pair has two benchmarks that can be averaged.

    `n_all`: benchmarks that any model has answers to.
    """
    cells = {}
    for pair in itertools.combinations(order, 2):
        both = [pairs[pair] for pairs in compared.values() if pair in pairs]
        mean = mean_difference(both, margin, shared)
        if mean is not None:
            cells[pair] = _mean_cell(averaged(both), mean, n_all)
    if not cells:
        return []
    corrected = _with_holm(cells)
    return [Matrix(None, "", True, _best_first(corrected, order, 1), corrected)]


def _mean_cell(
    compared: Sequence[BenchmarkComparison], mean: tuple[float, Interval | None, Verdict], n_all: int
) -> Cell:
    value, interval, verdict = mean
    p_value = detectable = None
    if interval is not None:
        se = (interval.high - interval.low) / 2 / normal_quantile(0.975)
        p_value = math.erfc(abs(value) / se / math.sqrt(2)) if se else float(value == 0)
        detectable = power.detectable(se)
    verdicts = [each.verdict for each in compared]
    return Cell(
        verdict=verdict,
        value=value,
        interval=interval,
        p_value=p_value,
        wins=verdicts.count(Verdict.BETTER),
        losses=verdicts.count(Verdict.WORSE),
        n=len(compared),
        detectable=detectable,
        remark=None if len(compared) == n_all else f"on {len(compared)} of {n_all} benchmarks",
    )


def _with_holm(cells: Mapping[Pair, Cell]) -> dict[Pair, Cell]:
    tested = {pair: cell.p_value for pair, cell in cells.items() if cell.p_value is not None}
    corrected = dict(zip(tested, families.holm(list(tested.values())), strict=True))
    # `replace` takes three times as long, which is felt with thousands of pairs
    return {pair: Cell(**vars(cell) | {"p_holm": corrected.get(pair)}) for pair, cell in cells.items()}


def _best_first(cells: Mapping[Pair, Cell], order: Iterable[str], sign: int) -> tuple[str, ...]:
    """Returns the models of `cells` by how far each is ahead of the others together."""
    ahead = dict.fromkeys((model for model in order if any(model in pair for pair in cells)), 0.0)
    for (a, b), cell in cells.items():
        if cell.value is not None:
            ahead[a] += sign * cell.value
            ahead[b] -= sign * cell.value
    return tuple(sorted(ahead, key=lambda model: -ahead[model]))
