"""How sure one score is: standard errors and 95 % intervals of a mean over questions."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
    Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]
    Labels = np.ndarray[tuple[int], np.dtype[np.int64]]

LEVEL = 0.95
"""Confidence of every interval."""
MIN_QUESTIONS = 15
"""Fewer questions get no interval."""
MIN_CLUSTERS = 5
"""Fewer clusters get no interval: too little is known of how much they differ."""
ROUNDING_ERROR = 1e-12
"""Smaller variances are noise of floating-point sums."""
IMAGINARY = 1
"""Questions (or clusters) of the largest variance that are added to those seen: few may be alike by chance.
Chosen by the coverage in docs/statistics.md."""


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval and the method that gave it."""

    low: float
    high: float
    method: str


@dataclass(frozen=True)
class Estimate:
    """A mean over questions and its uncertainty."""

    value: float
    n: int
    """Questions."""
    se: float | None
    """Standard error; None: fewer than two questions or clusters."""
    interval: Interval | None
    refusal: str | None
    """Why there is no interval; None: there is one."""
    n_clusters: int | None = None
    """Clusters that the error allows for; None: questions are taken as independent."""


def estimate(values: Floats, clusters: Labels | None = None) -> Estimate:
    """Returns the mean of `values` with its standard error and interval.

    Right or wrong answers, asked once and independent, get Wilson's interval. Other scores between 0 and 1
    get Wilson's interval for the number of independent questions with the same standard error
    (`effective_questions`), and Student's t: unlike mean ± t·se it never leaves the scale and holds its level
    for scores near 0 and 1. Scores on another scale get mean ± t·se.

    Args:
        values: Mean score of each question, shape (n,).
        clusters: Cluster number of each question, shape (n,); questions of one passage, subject or template
            share a number. None: questions are independent.

    Raises:
        ValueError: There are no values, or one is not finite.
    """
    import numpy as np

    if not len(values) or not np.isfinite(values).all():
        raise ValueError("expected at least one score, all of them finite")
    n, value = len(values), float(np.mean(values))
    members = None if clusters is None else len(np.unique(clusters))
    if members == n:
        clusters, members = None, None
    se = standard_error(values, clusters)
    refused = refusal(n, members)
    if refused is not None:
        return Estimate(value, n, se, None, refused, members)
    assert se is not None
    return Estimate(value, n, se, _interval(values, value, se, members or n, members), None, members)


def refusal(n: int, n_clusters: int | None) -> str | None:
    """Returns why so few questions or clusters get no interval; None: they are enough."""
    if n < MIN_QUESTIONS:
        return f"{n} questions; an interval needs at least {MIN_QUESTIONS}"
    if n_clusters is not None and n_clusters < MIN_CLUSTERS:
        return f"{n_clusters} clusters of questions; an interval needs at least {MIN_CLUSTERS}"
    return None


def _interval(values: Floats, value: float, se: float, independent: int, members: int | None) -> Interval:
    import numpy as np

    on_scale = float(values.min()) >= 0 and float(values.max()) <= 1
    if not on_scale:
        half = student_t(independent - 1) * se
        return Interval(value - half, value + half, "t")
    if members is None and bool(np.isin(values, (0.0, 1.0)).all()):
        return Interval(*wilson(float(values.sum()), independent), "wilson")
    effective = effective_questions(value, se, independent)
    if bool(np.isin(values, (0.0, 1.0)).all()):
        effective = min(effective, len(values))
    return effective_wilson(value, effective, independent)


def effective_questions(value: float, se: float, independent: int) -> float:
    """Returns how many right-or-wrong, independent questions would have the standard error of a proportion.

    That is value·(1 - value)/se² (Dean & Pagano, J. Surv. Stat. Methodol. 3 (2015) 484). The variance that
    `independent` questions or clusters show is first mixed with that of `IMAGINARY` more that are right or
    wrong, by Agresti & Coull's share, (value·n + 2)/(n + 4): of few, the rare ones that differ may be
    missing.
    """
    largest = value * (1 - value)
    if largest < ROUNDING_ERROR:
        return float(independent)
    moved = (value * independent + 2) / (independent + 4)
    seen = se**2 * independent * (independent - 1)
    variance = (seen + IMAGINARY * moved * (1 - moved)) / (independent - 1 + IMAGINARY)
    return largest / (variance / independent)


def effective_wilson(value: float, effective: float, independent: int) -> Interval:
    """Returns Wilson's interval of so many effective questions, with the t of so many independent ones."""
    low, high = wilson(value * effective, effective, student_t(independent - 1))
    return Interval(min(low, value), max(high, value), "wilson_effective")


@dataclass(frozen=True)
class Part:
    """A task of a group of tasks."""

    weight: float
    """Its share of the group's score; all add up to 1."""
    values: Floats
    """Mean score of each of its questions."""
    clusters: Labels | None = None
    """Cluster number of each question; None: questions are independent."""


def estimate_parts(parts: Sequence[Part]) -> Estimate:
    """Returns the score of a group of tasks: the sum of their means, each by its weight.

    Five tasks and more are clusters, as subjects are: the error is the cluster-robust one (CR1) of the
    weighted deviations. Fewer are the group's make-up: the error is √Σ(weight·se)².
    """
    import numpy as np

    n, count = sum(len(part.values) for part in parts), len(parts)
    means = [float(np.mean(part.values)) for part in parts]
    value = math.fsum(part.weight * mean for part, mean in zip(parts, means, strict=True))
    clusters = count if count >= MIN_CLUSTERS else None
    if clusters is not None:
        moved = [(part.weight * (mean - value)) ** 2 for part, mean in zip(parts, means, strict=True)]
        se, independent = math.sqrt(math.fsum(moved) * count / (count - 1)), count
    else:
        errors = [standard_error(part.values, part.clusters) for part in parts]
        known = [part.weight * error for part, error in zip(parts, errors, strict=True) if error is not None]
        if len(known) < count:
            return Estimate(value, n, None, None, "a task with a single question or cluster has no error")
        sizes = [len(part.values if part.clusters is None else np.unique(part.clusters)) for part in parts]
        se, independent = math.hypot(*known), sum(sizes) - count + 1
    refused = refusal(n, clusters)
    if refused is not None:
        return Estimate(value, n, se, None, refused, clusters)
    if clusters is None and value in (0, 1):
        return Estimate(value, n, se, Interval(*wilson(value * n, n), "wilson"), None)
    interval = effective_wilson(value, effective_questions(value, se, independent), independent)
    return Estimate(value, n, se, interval, None, clusters)


def standard_error(values: Floats, clusters: Labels | None = None) -> float | None:
    """Returns the standard error of the mean of `values`; None where two are lacking.

    With clusters it is the cluster-robust error with the factor G/(G-1) for G clusters (CR1; Liang & Zeger
    1986, Miller, arXiv 2411.00640, appendix A).
    """
    import numpy as np

    deviations = values - np.mean(values)
    if clusters is not None:
        _, numbers = np.unique(clusters, return_inverse=True)
        deviations = np.bincount(numbers, deviations)
    groups = len(deviations)
    if groups < 2:
        return None
    return math.sqrt(float(np.sum(deviations**2)) * groups / (groups - 1)) / len(values)


def wilson(right: float, n: float, quantile: float | None = None) -> tuple[float, float]:
    """Returns Wilson's 95 % score interval of `right` out of `n` (81/263: .2553 to .3662).

    E. B. Wilson, JASA 22 (1927) 209. `quantile` replaces the normal's, 1.96.
    """
    z = normal_quantile((1 + LEVEL) / 2) if quantile is None else quantile
    share, weight = right / n, z * z / n
    centre = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(max(0.0, share * (1 - share)) / n + weight / n / 4) / (1 + weight)
    low, high = min(max(0.0, centre - half), share), max(min(1.0, centre + half), share)
    return (0.0 if right == 0 else low), (1.0 if right == n else high)


def student_t(degrees: int) -> float:
    """Returns the quantile of Student's t that a two-sided 95 % interval needs."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    return float(stdtrit(degrees, (1 + LEVEL) / 2))


@functools.cache
def normal_quantile(probability: float) -> float:
    """Returns the standard normal's quantile (.975: 1.96)."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(probability)


@dataclass(frozen=True)
class Repeats:
    """Where the uncertainty of a score comes from when each question was answered several times."""

    se: float
    """Standard error of the score: other questions and other answers (`rerun_se` is part of it)."""
    rerun_se: float
    """Standard error of the score if the same questions were asked again."""
    within: float
    """Variance of a question's mean by the luck of its answers, averaged over questions."""
    between: float
    """Variance of the questions' true means; never below 0."""


def repeats(answers: Matrix) -> Repeats:
    """Splits the variance of a score into that of questions and that of answers (Miller 2411.00640, §3).

    Args:
        answers: Scores of shape (questions, repeats), at least 2 by 2.
    """
    import numpy as np

    n, k = answers.shape
    if n < 2 or k < 2:
        raise ValueError(f"expected at least 2 questions with 2 answers each, got {n} with {k}")
    means = answers.mean(axis=1)
    within = float(np.var(answers, axis=1, ddof=1).mean()) / k
    total = float(np.var(means, ddof=1))
    return Repeats(math.sqrt(total / n), math.sqrt(within / n), within, max(0.0, total - within))


def pass_at_k(n: int, right: int, k: int) -> float:
    """Returns the probability that one of `k` answers is right (Chen et al., arXiv 2107.03374)."""
    _check_k(n, right, k)
    return 1 - math.comb(n - right, k) / math.comb(n, k)


def pass_hat_k(n: int, right: int, k: int) -> float:
    """Returns the probability that all of `k` answers are right (Yao et al., arXiv 2406.12045)."""
    _check_k(n, right, k)
    return math.comb(right, k) / math.comb(n, k)


def _check_k(n: int, right: int, k: int) -> None:
    if not (0 <= right <= n and 1 <= k <= n):
        raise ValueError(f"expected 0 ≤ right ≤ n and 1 ≤ k ≤ n, got n {n}, right {right}, k {k}")


def mean_of_benchmarks(
    values: Sequence[float], errors: Sequence[float | None], families: Sequence[int] | None = None
) -> tuple[float, float | None]:
    """Returns the mean of benchmarks' scores and its standard error, √Σse²/T.

    Every benchmark weighs the same however many questions it has. The error is None where one is unknown.

    Args:
        values: The scores.
        errors: Their standard errors.
        families: A number for each benchmark. Errors of the same family add up before they are squared: the
            largest error that benchmarks with questions in common can have. None: they have none.
    """
    count = len(values)
    if not count or count != len(errors):
        raise ValueError("expected as many errors as scores, and at least one")
    known: dict[int, float] = {}
    for family, error in zip(families or range(count), errors, strict=True):
        if error is None:
            return math.fsum(values) / count, None
        known[family] = known.get(family, 0.0) + error
    return math.fsum(values) / count, math.hypot(*known.values()) / count
