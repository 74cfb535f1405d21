"""Error of a score: the harness's own standard error is kept, an interval is added, the mean is checked."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slurmeval.harnesses.base import Metric, Sample

LEVEL = 0.95
_ROUNDING = 5e-5
"""Harnesses that round write two digits of a percentage; more than half of the last one is a difference."""

_Key = tuple[str, str | None, str, str | None]
"""Task, subset, metric, filter."""


@dataclass(frozen=True)
class Spread:
    """The columns of `metrics` that say how sure a value is."""

    se: float | None = None
    se_method: str | None = None
    ci_lo: float | None = None
    ci_hi: float | None = None
    ci_level: float | None = None
    ci_method: str | None = None
    recomputed_value: float | None = None
    mismatch: bool | None = None


class Scores:
    """The samples' scores, gathered by what they measure: one list of values per question."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._questions: dict[_Key, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for sample in samples:
            for score in sample.scores:
                if score.value is not None:
                    for subset in {None, sample.category}:
                        key = (sample.task, subset, score.metric, score.filter)
                        self._questions[key][sample.native_id].append(float(score.value))

    def of(self, metric: Metric) -> list[list[float]]:
        """The values of each question that make up `metric`; empty when the samples do not carry it."""
        if metric.is_group:
            return []
        key = (metric.task, metric.subset or None, metric.metric, metric.filter)
        return list(self._questions.get(key, {}).values())


def spread(metric: Metric, questions: Sequence[Sequence[float]]) -> Spread:
    """Standard error and 95 % interval of a metric, from the values of each of its questions.

    Wilson's interval where every question is right or wrong once; else Student's t around the value, with the
    harness's standard error or, without one, that of the questions' means. A value that the samples
    contradict gets no interval of theirs."""
    means = [math.fsum(values) / len(values) for values in questions]
    recomputed = math.fsum(means) / len(means) if means else None
    mismatch = None
    if recomputed is not None and metric.value is not None:
        mismatch = abs(recomputed - metric.value) > tolerance(metric.harness_value, metric.harness_scale)
    se, se_method = metric.se, "harness" if metric.se is not None else None
    trusted = mismatch is False
    if se is None and trusted and len(means) > 1:
        se, se_method = standard_error(means), "questions"
    low = high = method = None
    if trusted and all(len(values) == 1 and values[0] in (0, 1) for values in questions):
        low, high = wilson(round(math.fsum(means)), len(means))
        method = "wilson"
    elif metric.value is not None and se is not None and metric.n_items is not None and metric.n_items > 1:
        half = _student_t(metric.n_items - 1) * se
        low, high, method = metric.value - half, metric.value + half, "student_t"
    return Spread(se, se_method, low, high, LEVEL if method else None, method, recomputed, mismatch)


def wilson(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of `right` out of `n` (81/263: .2553 to .3662).

    E. B. Wilson, JASA 22 (1927) 209. Written out because importing a library's takes seconds; a test holds it
    equal to statsmodels'."""
    from scipy.special import ndtri  # type: ignore[import-untyped]

    z = float(ndtri((1 + LEVEL) / 2))
    share, weight = right / n, z * z / n
    centre = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / n + weight / n / 4) / (1 + weight)
    return (0.0 if right == 0 else centre - half), (1.0 if right == n else centre + half)


def standard_error(means: Sequence[float]) -> float:
    """Standard error of the mean of independent questions (0..9: .957)."""
    mean = math.fsum(means) / len(means)
    return math.sqrt(math.fsum((x - mean) ** 2 for x in means) / (len(means) - 1) / len(means))


def tolerance(written: float | None, scale: float) -> float:
    """How far a recomputed mean may lie from a written score: half of the last digit written, never more than
    `_ROUNDING`, as a proportion."""
    if written is None:
        return _ROUNDING
    exponent = Decimal(repr(float(written))).as_tuple().exponent
    digits = -exponent if isinstance(exponent, int) else 0
    return min(_ROUNDING, 0.5 * 10.0**-digits / scale) + 1e-9


def _student_t(degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + LEVEL) / 2))
