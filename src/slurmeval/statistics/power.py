"""How small a difference a number of questions can show, and how many questions a difference needs."""

from __future__ import annotations

import math

from slurmeval.statistics.intervals import LEVEL, normal_quantile

POWER = 0.8
"""Chance of detecting a difference that is there."""


def _quantiles() -> float:
    return normal_quantile((1 + LEVEL) / 2) + normal_quantile(POWER)


def detectable(se: float) -> float:
    """Returns the smallest difference that is detected with 80 % power, 2.80 standard errors."""
    return _quantiles() * se


def needed(
    difference: float,
    variance: float,
    within_a: float = 0.0,
    within_b: float = 0.0,
    repeats_a: int = 1,
    repeats_b: int = 1,
) -> float:
    """Returns how many paired questions detect `difference` with 80 % power (Miller 2411.00640, §5).

    Args:
        difference: Difference of two scores, not 0.
        variance: Variance of the differences between questions' true means.
        within_a: Mean variance of the answers of one question, of the first model.
        within_b: The same of the second.
        repeats_a: Answers per question of the first model.
        repeats_b: The same of the second.
    """
    total = variance + within_a / repeats_a + within_b / repeats_b
    return _quantiles() ** 2 * total / difference**2


def mcnemar_power(n: int, only_a: float, only_b: float) -> float:
    """Returns the power of McNemar's exact two-sided test at 5 % with `n` paired questions.

    `only_a` and `only_b` are the probabilities that only the first or only the second model is right. All
    counts of discordant questions are enumerated.
    """
    import numpy as np
    from scipy.special import bdtr, gammaln, xlogy  # type: ignore[import-untyped]

    discordant = only_a + only_b
    if not (0 < discordant <= 1 and only_a >= 0 and only_b >= 0):
        raise ValueError("expected probabilities whose sum is above 0 and at most 1")

    def pmf(successes: np.ndarray, trials: int, p: float) -> np.ndarray:
        logs = gammaln(trials + 1) - gammaln(successes + 1) - gammaln(trials - successes + 1)
        logs += xlogy(successes, p) + xlogy(trials - successes, 1 - p)
        return np.asarray(np.exp(logs))

    counts = np.arange(n + 1)
    weights = pmf(counts, n, discordant)
    power = 0.0
    for count, weight in zip(counts, weights, strict=True):
        if weight < 1e-15 or not count:
            continue
        wins = np.arange(count + 1)
        p_values = np.minimum(1.0, 2 * bdtr(np.minimum(wins, count - wins), count, 0.5))
        power += weight * float(pmf(wins, int(count), only_a / discordant)[p_values <= 1 - LEVEL].sum())
    return float(min(1.0, power)) if not math.isnan(power) else 0.0
