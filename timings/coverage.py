"""How often each 95 % interval holds the truth: the tables of docs/statistics.md, in Markdown.

    .venv/bin/python timings/coverage.py [--times 2000]

Wilson's is exact, over all counts; the others are simulated, with one seed. Takes five minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from scipy.stats import binom  # type: ignore[import-untyped]

from slurmeval.statistics.intervals import Interval, estimate, standard_error, student_t, wilson
from slurmeval.statistics.pairs import difference, tango

Random = np.random.Generator
Draw = Callable[[Random], tuple[np.ndarray, np.ndarray | None]]
SHARES = (0.02, 0.1, 0.5, 0.9, 0.98)
SIZES = (15, 60, 200, 500, 2000)
RESAMPLES = 400


def repeated(n: int, p: float, answers: int) -> Draw:
    """Questions of all difficulties, each answered several times."""
    return lambda random: (random.binomial(answers, random.beta(p, 1 - p, n)) / answers, None)


def graded(n: int, p: float) -> Draw:
    """Questions with a score between 0 and 1."""
    return lambda random: (random.beta(3 * p, 3 * (1 - p), n), None)


def clustered(groups: int, size: int, icc: float, p: float) -> Draw:
    """Right or wrong answers about passages of unequal length, each of a difficulty of its own."""
    sizes = np.maximum(1, np.rint(size * 2 * np.arange(1, groups + 1) / (groups + 1))).astype(int)
    shape = (1 - icc) / icc

    def draw(random: Random) -> tuple[np.ndarray, np.ndarray]:
        difficulty = np.repeat(random.beta(p * shape, (1 - p) * shape, groups), sizes)
        return (random.random(len(difficulty)) < difficulty).astype(float), np.repeat(
            np.arange(groups), sizes
        )

    return draw


def ours(values: np.ndarray, clusters: np.ndarray | None, random: Random) -> Interval | None:
    """The interval of slurmeval."""
    return estimate(values, clusters).interval


def usual(values: np.ndarray, clusters: np.ndarray | None, random: Random) -> Interval | None:
    """Mean ± t·se."""
    count = len(values) if clusters is None else len(np.unique(clusters))
    half = student_t(count - 1) * (standard_error(values, clusters) or 0.0)
    return Interval(float(values.mean()) - half, float(values.mean()) + half, "t")


def bootstrap(values: np.ndarray, clusters: np.ndarray | None, random: Random) -> Interval | None:
    """Percentiles of means of whole clusters drawn again."""
    assert clusters is not None
    sums, sizes = np.bincount(clusters, values), np.bincount(clusters)
    drawn = random.integers(0, len(sums), (RESAMPLES, len(sums)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), (0.025, 0.975))
    return Interval(float(low), float(high), "bootstrap")


def held(draw: Draw, truth: float, times: int, *methods: Callable[..., Interval | None]) -> list[float]:
    """Returns the share of intervals of each method that hold the truth."""
    counts = [0] * len(methods)
    random = np.random.default_rng(0)
    for _ in range(times):
        values, clusters = draw(random)
        for index, method in enumerate(methods):
            found = method(values, clusters, random)
            counts[index] += found is not None and found.low <= truth <= found.high
    return [count / times for count in counts]


def paired(n: int, a_only: float, b_only: float, times: int) -> float:
    """Returns the coverage of Tango's interval."""
    random, known = np.random.default_rng(0), {}
    count = 0
    for a, b, _ in random.multinomial(n, [a_only, b_only, 1 - a_only - b_only], times).tolist():
        if (a, b) not in known:
            known[a, b] = tango(n, a, b)
        low, high = known[a, b]
        count += low <= a_only - b_only <= high
    return count / times


def differing(groups: int, size: int, times: int) -> float:
    """Returns the coverage of the clustered t of two models' differences, whose passages differ."""
    random, count = np.random.default_rng(0), 0
    for _ in range(times):
        base = np.repeat(random.beta(2, 2, groups), size)
        moved = np.clip(base + np.repeat(random.normal(0, 0.1, groups), size), 0, 1)
        a, b = ((random.random(len(base)) < p).astype(float) for p in (moved, base))
        found = difference(a, b, np.arange(len(base)) // size).interval
        count += found is not None and found.low <= 0 <= found.high
    return count / times


def exact(n: int, p: float) -> float:
    """Returns the coverage of Wilson's interval, over all counts."""
    counts = np.arange(n + 1)
    holds = [low <= p <= high for low, high in (wilson(int(count), n) for count in counts)]
    return float(binom.pmf(counts, n, p)[holds].sum())


def around(n: int, p: float) -> float:
    """Returns its mean over scores near `p`: the score of a model is no round number."""
    return float(
        np.mean([exact(n, near) for near in np.linspace(0.8 * p, min(1.2 * p, 1 - 0.2 * (1 - p)), 21)])
    )


def rows(times: int) -> Iterator[str]:
    """Yields the tables."""
    yield "| right or wrong, once: Wilson | " + " | ".join(f"p = {p}" for p in SHARES) + " |"
    yield "|---" * (1 + len(SHARES)) + "|"
    for n in SIZES:
        cells = (f"{exact(n, p):.3f} ({around(n, p):.3f})" for p in SHARES)
        yield f"| n = {n:,} | " + " | ".join(cells) + " |"
    yield ""
    yield "| between 0 and 1 | " + " | ".join(f"p = {p}" for p in SHARES) + " |"
    yield "|---" * (1 + len(SHARES)) + "|"
    for name, make in (("4 answers each", lambda n, p: repeated(n, p, 4)), ("graded", graded)):
        for n in SIZES:
            cells = (held(make(n, p), p, times, ours, usual) for p in SHARES)
            yield f"| {name}, n = {n:,} | " + " | ".join(f"{a:.3f} ({b:.3f})" for a, b in cells) + " |"
    yield ""
    yield "| clusters × questions, correlation | " + " | ".join(f"p = {p}" for p in SHARES) + " |"
    yield "|---" * (1 + len(SHARES)) + "|"
    for groups in (5, 10, 20, 50, 200):
        for size, icc in ((5, 0.2), (5, 0.6), (50, 0.1)):
            cells = (
                held(clustered(groups, size, icc, p), p, times // 2, ours, usual, bootstrap) for p in SHARES
            )
            row = " | ".join(f"{a:.3f} ({b:.3f}, {c:.3f})" for a, b, c in cells)
            yield f"| {groups} × {size}, {icc} | {row} |"
    yield ""
    yield (
        "| two models, questions that one alone has right | " + " | ".join(f"n = {n:,}" for n in SIZES) + " |"
    )
    yield "|---" * (1 + len(SIZES)) + "|"
    for a, b in ((0.02, 0.02), (0.1, 0.05), (0.2, 0.2), (0.3, 0.1)):
        yield f"| {a}, {b} (Tango) | " + " | ".join(f"{paired(n, a, b, times):.3f}" for n in SIZES) + " |"
    yield ""
    yield "| two models, clusters of 5 | " + " | ".join(f"G = {g}" for g in (5, 10, 20, 50, 200)) + " |"
    yield "|---" * 6 + "|"
    cells = (f"{differing(groups, 5, times):.3f}" for groups in (5, 10, 20, 50, 200))
    yield "| clustered t | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=2000, help="simulations of each cell")
    for line in rows(parser.parse_args().times):
        print(line, flush=True)
