"""`slurmeval compare`: whether one model is better than another, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurmeval.cli.lean import lean
from slurmeval.cli.naming import about_results
from slurmeval.cli.numbers import Number, min_paired_option
from slurmeval.cli.scores import aligned, printable
from slurmeval.cli.suites import benchmark_options, wanted
from slurmeval.wording import signed

if TYPE_CHECKING:
    from slurmeval.results.comparison import BenchmarkComparison, Comparison
    from slurmeval.statistics.intervals import Interval


@click.command()
@click.argument("a")
@click.argument("b")
@benchmark_options
@click.option(
    "--margin",
    type=Number(0, 1, max_open=True),
    default=0.0,
    help="Differences up to it do not matter: 0.02 is two points of a score from 0 to 100.  [default: 0]",
)
@min_paired_option
@about_results
def compare(
    a: str,
    b: str,
    benchmarks: tuple[str, ...],
    suites: tuple[str, ...],
    margin: float,
    min_paired: float,
    results: Path,
) -> int:
    """Compares two models on the questions that both answered.

    A and B are their ids in the config. Shown are the difference A − B with its 95 % interval, the p-value
    (corrected by Holm where there are several benchmarks), how many questions only A or only B has right, and
    a verdict on A: better, worse, equivalent (any difference is below the margin), or cannot tell, with the
    number of questions that would.
    docs/comparison.md says how each is worked out.
    """
    lean()
    from slurmeval.results.comparison import compare as compared

    for line in lines(compared(results, a, b, wanted(results, benchmarks, suites), margin, min_paired)):
        click.echo(line)
    return 0


def lines(comparison: Comparison) -> Iterator[str]:
    """Yields a comparison as lines for a terminal."""
    yield from map(printable, _lines(comparison))


def _lines(comparison: Comparison) -> Iterator[str]:
    from slurmeval.results.comparison import averaged

    a, b = comparison.a, comparison.b
    head = [
        "benchmark",
        "metric",
        a,
        b,
        "A − B",
        "95 % interval",
        "p",
        "A only",
        "B only",
        "n",
        "verdict on A",
    ]
    several = sum(each.p_holm is not None for each in comparison.benchmarks) > 1
    if several:
        head[6] = "p (Holm)"
    table = [head, *(_row(each) for each in comparison.benchmarks)]
    yield f"A = {a}, B = {b}" + (f"; margin {comparison.margin:g}" if comparison.margin else "")
    yield from aligned([[printable(cell) for cell in row] for row in table], 2)
    if comparison.mean is not None:
        value, interval, verdict = comparison.mean
        within = [each.benchmark for each in averaged(comparison.benchmarks)]
        of = f"Mean of {len(within)} benchmarks, each weighing the same"
        yield f"{of}: {signed(value)} ({_interval(interval)}); verdict on A: {verdict}"
        if outside := [each.benchmark for each in comparison.benchmarks if each.benchmark not in within]:
            yield f"Not in the mean: {', '.join(outside)}"
        for one, other, count in comparison.shared:
            yield f"{one} and {other} share {count:,} questions: the mean's error adds theirs up"
    for each in comparison.benchmarks:
        for remark in _remarks(each, a, b):
            yield f"{each.benchmark}: {remark}"
    if comparison.missing:
        yield f"With results of one of them only: {', '.join(comparison.missing)}"


def _row(compared: BenchmarkComparison) -> list[str]:
    found = compared.difference
    means = ["" if mean is None else f"{mean:.3f}" for mean in (compared.mean_a, compared.mean_b)]
    start = [compared.benchmark, compared.metric, *means]
    n = str(compared.certificate.paired)
    if found is None:
        return [*start, "", "", "", "", "", n, "not compared"]
    only = ["" if count is None else str(count) for count in (found.a_only, found.b_only)]
    p_value = "" if compared.p_holm is None else _p_value(compared.p_holm)
    needed = "" if found.needed is None else f" (n ≈ {found.needed:,} would)"
    verdict = f"{compared.verdict}{needed}"
    return [*start, signed(found.value), _interval(found.interval), p_value, *only, n, verdict]


def _remarks(compared: BenchmarkComparison, a: str, b: str) -> Iterator[str]:
    """Yields what a reader has to know of a comparison before believing it."""
    certificate, found = compared.certificate, compared.difference
    refusal = compared.refusal or (found.refusal if found else None)
    if refusal is not None:
        yield refusal
    unpaired = {f"asked of {a} only": certificate.only_a, f"asked of {b} only": certificate.only_b}
    unpaired["not answered by both"] = certificate.errored
    if any(unpaired.values()):
        counts = ", ".join(f"{count:,} {what}" for what, count in unpaired.items() if count)
        yield f"{certificate.paired:,} questions are paired; {counts}"
    if certificate.unparsed_a or certificate.unparsed_b:
        unread = f"{certificate.unparsed_a:,} of {a}, {certificate.unparsed_b:,} of {b}"
        yield f"answers that the harness could not read, with the scores it gave them: {unread}"
    if compared.settings:
        yield f"not run alike: {'; '.join(compared.settings)}"
    if not compared.higher_is_better:
        yield f"less {compared.metric} is better"
    if compared.n_clusters is not None:
        yield f"the interval allows for {compared.n_clusters:,} clusters of related questions"
    if found is not None and found.detectable is not None:
        yield f"so many questions show differences of {found.detectable:.3f} or more (power 80 %)"


def _interval(interval: Interval | None) -> str:
    return "no interval" if interval is None else f"{signed(interval.low)} … {signed(interval.high)}"


def _p_value(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0")
