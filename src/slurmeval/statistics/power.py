"""How small a difference a number of questions can show, and how many questions a difference needs."""

from __future__ import annotations

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
