"""A judge's score, corrected by people's labels of a random sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slurmeval.statistics.intervals import LEVEL, Interval, normal_quantile, student_t, wilson

if TYPE_CHECKING:
    import numpy as np

    from slurmeval.statistics.intervals import Floats, Labels

LEAST_INFORMATIVE = 0.2
"""Sensitivity plus specificity less 1, below which a judge says too little to be corrected."""
LEAST_LABELLED = 15
"""Fewer labels correct nothing: their own variance is not known."""


@dataclass(frozen=True)
class Corrected:
    """A corrected mean."""

    value: float
    se: float
    interval: Interval
    weight: float | None = None
    """How much the judge counts (PPI++); None: another method."""


@dataclass(frozen=True)
class Accuracy:
    """How often a judge's yes and no are right, as people say."""

    sensitivity: float
    """Of the right answers, the share that the judge calls right."""
    specificity: float
    """Of the wrong answers, the share that the judge calls wrong."""
    n_right: int
    n_wrong: int

    @property
    def informative(self) -> float:
        """Returns sensitivity + specificity − 1: 0 is a coin, 1 is people."""
        return self.sensitivity + self.specificity - 1


def accuracy(labels: Floats, judged: Floats) -> Accuracy | None:
    """Returns sensitivity and specificity; None: all labels are the same.

    Args:
        labels: What people say, 0 or 1, shape (n,).
        judged: What the judge says, 0 or 1, shape (n,).
    """
    right = labels == 1
    n_right, n_wrong = int(right.sum()), int((~right).sum())
    if not n_right or not n_wrong:
        return None
    return Accuracy(float(judged[right].mean()), float(1 - judged[~right].mean()), n_right, n_wrong)


def rogan_gladen(raw: float, n: int, known: Accuracy) -> Corrected | None:
    """Returns the share that is right, from a judge's raw share and its accuracy; None: it says too little.

    W. J. Rogan, B. Gladen, Am. J. Epidemiol. 107 (1978) 71. The value and its ends are cut to 0 to 1.

    Args:
        raw: The share of `n` answers that the judge calls right.
        n: Answers that were judged.
        known: The judge's accuracy on labelled answers.
    """
    informative = known.informative
    if informative < LEAST_INFORMATIVE:
        return None
    share = (raw + known.specificity - 1) / informative
    of_raw = raw * (1 - raw) / n
    of_wrong = (1 - share) ** 2 * _variance(known.specificity, known.n_wrong)
    of_right = share**2 * _variance(known.sensitivity, known.n_right)
    se = math.sqrt(of_raw + of_wrong + of_right) / informative
    half = normal_quantile((1 + LEVEL) / 2) * se
    low, value, high = (min(1.0, max(0.0, float(end))) for end in (share - half, share, share + half))
    return Corrected(value, se, Interval(low, high, "rogan_gladen"))


def _variance(rate: float, n: int) -> float:
    """Returns the variance of a rate. Where all `n` are alike it is that of Wilson's interval, and not 0."""
    if 0 < rate < 1:
        return rate * (1 - rate) / n
    low, high = wilson(rate * n, n)
    return ((high - low) / 2 / normal_quantile((1 + LEVEL) / 2)) ** 2


def prediction_powered(
    labels: Floats,
    judged: Floats,
    unlabelled: Floats,
    weight: float | None = None,
    clusters: Labels | None = None,
    unlabelled_clusters: Labels | None = None,
) -> Corrected:
    """Returns the mean that people would give all answers, from their labels of some and a judge of all.

    PPI++ (Angelopoulos, Duchi, Zrnic, arXiv 2311.01453): λ·mean(unlabelled) + mean(labels − λ·judged), with
    the λ of the least variance. The labelled answers must be a random sample of all. λ = 0 is the mean of the
    labels alone, which no judge can spoil.

    Args:
        labels: What people say of the labelled answers, shape (n,), n at least 2.
        judged: What the judge says of them, shape (n,).
        unlabelled: What the judge says of the others, shape (N,), N at least 2.
        weight: λ; None: the best one.
        clusters: Number of each labelled answer's cluster, shape (n,); None: all are independent.
        unlabelled_clusters: The same of the others, shape (N,); the same number is the same cluster.
    """
    import numpy as np

    n, others = len(labels), len(unlabelled)
    if weight is None:
        variance = float(np.var(np.concatenate([judged, unlabelled]), ddof=1))
        covariance = float(np.cov(labels, judged)[0, 1])
        weight = 0.0 if variance == 0 else min(1.0, max(0.0, covariance / ((1 + n / others) * variance)))
    rest = labels - weight * judged
    value = weight * float(unlabelled.mean()) + float(rest.mean())
    if clusters is None or unlabelled_clusters is None:  # as the paper has it
        groups = n
        se = math.hypot(
            float(rest.std()) / math.sqrt(n), weight * float(unlabelled.std()) / math.sqrt(others)
        )
    else:
        groups = len(np.unique(clusters))
        names, numbers = np.unique(np.concatenate([clusters, unlabelled_clusters]), return_inverse=True)
        moved = _moved(rest, numbers[:n], len(names)) + _moved(weight * unlabelled, numbers[n:], len(names))
        se = math.sqrt(float((moved**2).sum()))
    half = student_t(groups - 1) * se
    return Corrected(value, se, Interval(value - half, value + half, "ppi++"), weight)


def _moved(values: Floats, numbers: np.ndarray, size: int) -> np.ndarray:
    """Returns by how much each of `size` clusters moves the mean; their squares add up to CR1's variance.

    A cluster with labelled answers and others moves both means, so that the two do not err on their own.
    """
    import numpy as np

    groups = len(np.unique(numbers))
    factor = math.sqrt(groups / max(1, groups - 1)) / len(values)
    return np.bincount(numbers, values - values.mean(), size) * factor
