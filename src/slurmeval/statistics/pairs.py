"""Whether two models differ on the same questions: paired differences, their intervals, and a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from slurmeval.statistics import power
from slurmeval.statistics.intervals import (
    IMAGINARY,
    LEVEL,
    ROUNDING_ERROR,
    Interval,
    normal_quantile,
    refusal,
    standard_error,
    student_t,
)

if TYPE_CHECKING:
    import numpy as np

    from slurmeval.statistics.intervals import Floats, Labels

FEW_QUESTIONS = 50
"""With fewer questions (or clusters) the p-value is a sign-flip test's, which assumes no distribution."""
SIGN_FLIPS = 9_999
"""Random flips of that test."""


class Verdict(StrEnum):
    """What an interval of A − B says, higher being better."""

    BETTER = "better"
    """A is better: the interval lies above 0 and not within the margin."""
    WORSE = "worse"
    """A is worse: the interval lies below 0 and not within the margin."""
    EQUIVALENT = "equivalent"
    """Any difference is smaller than the margin: the interval lies within ± margin."""
    CANNOT_TELL = "cannot tell"
    """The interval holds 0 and reaches beyond the margin, or there is none."""

    @property
    def reversed(self) -> Verdict:
        """The verdict on B − A."""
        return {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}.get(self, self)


@dataclass(frozen=True)
class Difference:
    """The difference of two models' scores, A − B, on the questions that both answered."""

    value: float
    n: int
    se: float | None
    """Standard error; where all questions differ alike, that of the interval."""
    interval: Interval | None
    p_value: float | None
    test: str | None
    """`mcnemar`, `t` or `sign_flip`."""
    a_only: int | None
    """Questions that A alone has right; None: scores are not right or wrong."""
    b_only: int | None
    detectable: float | None
    """Smallest difference that so many questions show with 80 % power; None where no question differs."""
    verdict: Verdict
    needed: int | None
    """Questions that would tell (the difference seen, or the margin, with 80 % power); None: it is told."""
    refusal: str | None = None
    """Why there is no interval."""


def difference(a: Floats, b: Floats, clusters: Labels | None = None, margin: float = 0.0) -> Difference:
    """Compares two models' scores of the same questions.

    Right or wrong answers to independent questions: Tango's score interval and McNemar's exact test. Other
    scores, and clustered questions: Student's t on the differences, cluster-robust (CR1) with G-1 degrees of
    freedom; with few questions the p-value is a sign-flip test's.

    Args:
        a: Question scores of the first model, shape (n,).
        b: Those of the second, in the same order.
        clusters: Cluster number of each question; None: independent.
        margin: Differences up to it do not matter, as a score.

    Raises:
        ValueError: Nothing is paired, or a score is not finite.
    """
    import numpy as np

    if len(a) != len(b) or not len(a) or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("expected equally many finite scores of both models, and at least one")
    if clusters is not None and len(np.unique(clusters)) == len(a):
        clusters = None
    differences = np.asarray(a - b)
    n, value = len(a), float(differences.mean())
    binary = all(bool(((scores == 0) | (scores == 1)).all()) for scores in (a, b))
    a_only = int((differences == 1).sum()) if binary else None
    b_only = int((differences == -1).sum()) if binary else None
    se = standard_error(differences, clusters)
    refused = refusal(n, None if clusters is None else len(np.unique(clusters)))
    interval, p_value, test = None, None, None
    if refused is None and a_only is not None and b_only is not None and clusters is None:
        interval = Interval(*tango(n, a_only, b_only), "tango")
        p_value, test = mcnemar(a_only, b_only), "mcnemar"
    elif refused is None:
        interval, p_value, test = _of_means(differences, clusters, in_unit=_in_unit(a, b))
    verdict = judge(interval, margin)
    return Difference(
        value=value,
        n=n,
        se=_error_of(interval, se),
        interval=interval,
        p_value=p_value,
        test=test,
        a_only=a_only,
        b_only=b_only,
        detectable=power.detectable(se) if se and not refused else None,
        verdict=verdict,
        needed=_needed(verdict, value, se, n, margin),
        refusal=refused,
    )


def judge(interval: Interval | None, margin: float) -> Verdict:
    """Returns what an interval of A − B says when differences up to `margin` do not matter."""
    if interval is None:
        return Verdict.CANNOT_TELL
    if -margin < interval.low and interval.high < margin:
        return Verdict.EQUIVALENT
    if interval.low > 0:
        return Verdict.BETTER
    return Verdict.WORSE if interval.high < 0 else Verdict.CANNOT_TELL


def tango(n: int, a_only: int, b_only: int) -> tuple[float, float]:
    """Returns Tango's 95 % score interval of a paired difference of proportions.

    T. Tango, Statistics in Medicine 17 (1998) 891 (n 100, 15 and 5: .0134 to .1924). The bounds are where the
    score statistic is ∓1.96; it falls with the difference, so bisection finds them to 1e-12.
    """
    z = normal_quantile((1 + LEVEL) / 2)

    def bound(target: float, low: float, high: float) -> float:
        while high - low > 1e-12:
            middle = (low + high) / 2
            above = tango_score(n, a_only, b_only, middle) > target
            low, high = (middle, high) if above else (low, middle)
        return (low + high) / 2

    seen = (a_only - b_only) / n
    low = -1.0 if seen == -1 else bound(z, -1.0, seen)
    high = 1.0 if seen == 1 else bound(-z, seen, 1.0)
    return low, high


def tango_score(n: int, a_only: int, b_only: int, delta: float) -> float:
    """Returns Tango's statistic against a true difference of `delta`, normal if that is the true one.

    The larger discordant probability is estimated under `delta`.
    """
    linear = (2 * n - a_only + b_only) * delta - a_only - b_only
    constant = -b_only * delta * (1 - delta)
    q = (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * q + delta * (1 - delta))
    above = a_only - b_only - n * delta
    if variance < ROUNDING_ERROR:
        return 0.0 if abs(above) < ROUNDING_ERROR else math.copysign(math.inf, above)
    return above / math.sqrt(variance)


def p_below(found: Difference, limit: float, n_clusters: int | None = None) -> float:
    """Returns the one-sided p-value against a true difference of `limit` or more; small: it is below.

    It is that of the interval: Tango's score test, or Student's t. 1 if there is no interval.
    """
    from scipy.special import ndtr, stdtr  # type: ignore[import-untyped]

    if found.interval is None or found.se is None:
        return 1.0
    if found.interval.method == "tango" and found.a_only is not None and found.b_only is not None:
        return float(ndtr(tango_score(found.n, found.a_only, found.b_only, limit)))
    if found.se**2 < ROUNDING_ERROR:  # off the scale of 0 to 1
        return float(found.value >= limit - ROUNDING_ERROR)
    return float(stdtr((n_clusters or found.n) - 1, (found.value - limit) / found.se))


def mcnemar(a_only: int, b_only: int) -> float:
    """Returns the p-value of McNemar's exact two-sided test (15 and 5: .0414)."""
    from scipy.special import bdtr

    discordant = a_only + b_only
    return min(1.0, 2 * float(bdtr(min(a_only, b_only), discordant, 0.5))) if discordant else 1.0


def _of_means(differences: np.ndarray, clusters: Labels | None, in_unit: bool) -> tuple[Interval, float, str]:
    """Returns interval, p-value and test of differences that are not right against wrong."""
    import numpy as np
    from scipy.special import stdtr

    value, se = float(differences.mean()), standard_error(differences, clusters)
    assert se is not None
    independent = len(differences) if clusters is None else len(np.unique(clusters))
    alike = se**2 < ROUNDING_ERROR
    if alike and in_unit:  # the next may differ by 1, as Wilson's interval of no right answer allows
        se = math.sqrt(IMAGINARY / (independent - 1 + IMAGINARY) / independent)
    half = student_t(independent - 1) * se
    low, high = value - half, value + half
    interval = Interval(max(-1.0, low), min(1.0, high), "t") if in_unit else Interval(low, high, "t")
    if independent < FEW_QUESTIONS or alike:
        return interval, _sign_flip(differences, clusters), "sign_flip"
    return interval, 2 * float(stdtr(independent - 1, -abs(value) / se)), "t"


def _error_of(interval: Interval | None, se: float | None) -> float | None:
    """Returns a standard error that is not 0 where the interval has a width."""
    if se is None or se**2 >= ROUNDING_ERROR or interval is None:
        return se
    return (interval.high - interval.low) / 2 / normal_quantile((1 + LEVEL) / 2)


def _sign_flip(differences: np.ndarray, clusters: Labels | None) -> float:
    """Returns the share of sign changes, a cluster's together, that give a mean as far from 0."""
    import numpy as np

    sums = differences
    if clusters is not None:
        _, numbers = np.unique(clusters, return_inverse=True)
        sums = np.bincount(numbers, differences)
    # Always the same flips: a p-value does not change by being looked at again
    signs = np.random.default_rng(0).choice((-1.0, 1.0), (SIGN_FLIPS, len(sums)))
    seen = abs(float(sums.sum()))
    # The data as they are count as one flip (Phipson & Smyth 2010)
    return float((np.abs(signs @ sums) >= seen - 1e-9).sum() + 1) / (SIGN_FLIPS + 1)


def _in_unit(*scores: Floats) -> bool:
    return all(float(values.min()) >= 0 and float(values.max()) <= 1 for values in scores)


def _needed(verdict: Verdict, value: float, se: float | None, n: int, margin: float) -> int | None:
    """Returns how many such questions tell a difference as large as the seen one or the margin."""
    target = max(abs(value), margin)
    if verdict is not Verdict.CANNOT_TELL or se is None or se**2 < ROUNDING_ERROR or target < ROUNDING_ERROR:
        return None
    return math.ceil(power.needed(target, se**2 * n))
