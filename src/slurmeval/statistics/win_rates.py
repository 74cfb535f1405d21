"""Win rates of comparisons, raw and with the answers' length and style held equal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slurmeval.statistics.intervals import LEVEL, MIN_QUESTIONS, Interval

if TYPE_CHECKING:
    import numpy as np

    from slurmeval.statistics.intervals import Floats, Labels, Matrix

RESAMPLES = 1_000
"""Of the bootstrap over prompts."""
PENALTY = 1e-2
"""On squared coefficients of style, as of that many prompts: a few prompts do not send them to infinity."""
MAX_STEPS = 50
SAME = 1e-6
"""Ends of an interval that are nearer to each other say that all resamples were the same."""


@dataclass(frozen=True)
class WinRate:
    """A win rate, raw and controlled."""

    raw: float
    raw_interval: Interval | None
    controlled: float
    controlled_interval: Interval | None
    effects: tuple[float, ...]
    """By how much each difference in style moves the log odds of a win, in standard deviations of it."""


def length_feature(first: Floats, second: Floats) -> Floats:
    """Returns how much longer the first answers are, from −1 to 1: tanh of the difference in deviations.

    As in AlpacaEval 2 (Dubois et al., arXiv 2404.04475), so that a single very long answer does not rule.
    """
    import numpy as np

    difference = first - second
    deviation = float(difference.std())
    return np.zeros_like(difference) if deviation == 0 else np.tanh(difference / deviation)


def share_feature(first: Floats, second: Floats) -> Floats:
    """Returns the difference of counts by their sum, from −1 to 1; 0 where neither has any.

    As in Arena-Hard-Auto's style control, of headers, lists and bold text.
    """
    import numpy as np

    total = first + second
    return np.where(total > 0, (first - second) / np.maximum(total, 1), 0.0)


def win_rate(wins: Floats, features: Matrix, prompts: Labels) -> WinRate:
    """Returns the win rate, raw and at equal length and style, with intervals by a bootstrap over prompts.

    A logistic regression of the wins on the differences; the rate is that where all differences are 0. Each
    resample draws prompts with all their answers and fits anew, so that the interval holds what the fit
    does not know.

    Args:
        wins: 1, 0, or 0.5 for a tie, shape (n,).
        features: Differences of the two answers in length and style, shape (n, k).
        prompts: Number of each comparison's prompt, shape (n,).
    """
    import numpy as np

    design = np.column_stack([np.ones(len(wins)), features])
    names, numbers = np.unique(prompts, return_inverse=True)
    whole = _fit(wins, design, np.ones((1, len(wins))))[0]
    raws: Floats | None = None
    controlled = None
    if len(names) >= MIN_QUESTIONS:
        drawn = np.random.default_rng(0).multinomial(len(names), [1 / len(names)] * len(names), RESAMPLES)
        weights = drawn[:, numbers].astype(float)
        raws = weights @ wins / weights.sum(axis=1)
        controlled = 1 / (1 + np.exp(-_fit(wins, design, weights)[:, 0]))
    return WinRate(
        float(wins.mean()),
        _middle(raws),
        1 / (1 + math.exp(-float(whole[0]))),
        _middle(controlled),
        tuple(float(each) for each in whole[1:]),
    )


def _fit(wins: Floats, design: Matrix, weights: np.ndarray) -> np.ndarray:
    """Returns the coefficients of weighted logistic regressions, shape (fits, 1 + k).

    Newton's steps of at most 1; `weights` is of shape (fits, n).
    """
    import numpy as np

    size = design.shape[1]
    penalty = np.full(size, PENALTY)
    penalty[0] = 1e-6  # of the rate itself: only so that a rate of 0 or 1 has an end
    found = np.zeros((len(weights), size))
    for _ in range(MAX_STEPS):
        expected = 1 / (1 + np.exp(-found @ design.T))
        gradient = (weights * (wins - expected)) @ design - penalty * found
        spread = weights * expected * (1 - expected)
        hessian = np.einsum("fn,ni,nj->fij", spread, design, design, optimize=True) + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        largest = np.abs(step).max(axis=1, keepdims=True)
        found = found + step / np.maximum(1, largest)
        if largest.max() < 1e-9:
            break
    return found


def _middle(found: Floats | None) -> Interval | None:
    """Returns the middle 95 % of what resamples gave; None: there are too few prompts, or all gave the same.

    That all were equal does not say that the next ones will be.
    """
    import numpy as np

    if found is None:
        return None
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), "bootstrap") if high - low > SAME else None
