"""Strengths of models from who was preferred to whom (Bradley & Terry, Biometrika 39 (1952) 324)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from slurmeval.statistics.bootstrap import percentiles, resampled
from slurmeval.statistics.intervals import MIN_QUESTIONS

if TYPE_CHECKING:
    import numpy as np

    from slurmeval.statistics.intervals import Floats, Interval

PENALTY = 1e-6
"""On squared strengths: who never lost is far ahead, not infinitely."""
ELO_PER_UNIT = 400 / math.log(10)
"""Of the Elo scale, whose middle is 1000 here."""
MAX_STEPS = 100


def strengths(wins: np.ndarray) -> Floats:
    """Returns the log strengths, whose mean is 0: i is preferred to j with probability 1/(1+exp(θj-θi)).

    `wins`: how often i was preferred to j, shape (…, models, models); a tie is half a win of either. The
    likelihood is maximised by Newton's steps, of at most 1.
    """
    import numpy as np

    games = wins + np.swapaxes(wins, -1, -2)
    found = np.zeros(wins.shape[:-1])
    size = wins.shape[-1]
    for _ in range(MAX_STEPS):
        expected = 1 / (1 + np.exp(found[..., None, :] - found[..., :, None]))
        gradient = (wins - games * expected).sum(axis=-1) - PENALTY * found
        weights = games * expected * (1 - expected)
        hessian = np.eye(size) * (weights.sum(axis=-1) + PENALTY)[..., None] - weights
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        largest = np.abs(step).max(axis=-1, keepdims=True)
        found = found + step / np.maximum(1, largest)
        if largest.max() < 1e-10:
            break
    centred: Floats = found - found.mean(axis=-1, keepdims=True)
    return centred


def intervals(wins: np.ndarray, against: int | None = None) -> list[Interval | None]:
    """Returns the 95 % interval of each model's strength, by a bootstrap over prompts; of few prompts none.

    Args:
        wins: Of each prompt, shape (prompts, models, models).
        against: The model whose strength is taken to be 0; None: the mean is.
    """
    if len(wins) < MIN_QUESTIONS:
        return [None] * wins.shape[-1]
    found = strengths(resampled(wins))
    if against is not None:
        found = found - found[:, [against]]
    return [percentiles(found[:, model]) for model in range(wins.shape[-1])]


def undecided(wins: np.ndarray) -> bool:
    """Returns whether strengths say nothing: some models were never preferred to any of the others.

    Then no finite strengths are the likeliest (Ford, Am. Math. Monthly 64 (1957) 28).
    """
    import numpy as np

    size = len(wins)
    reached = (wins > 0) | np.eye(size, dtype=bool)
    for _ in range(size):
        reached = reached @ reached
    return not bool(reached.all())
