"""A few questions that stand for all: item response theory over models and questions.

The two-parameter logistic model (Birnbaum 1968): a model of ability θ has a question right with the
probability 1/(1 + exp(-(aθ + c))). Few models answer many questions here, so that all parameters have normal
priors and are fitted at their joint mode.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slurmeval.statistics.intervals import ROUNDING_ERROR

if TYPE_CHECKING:
    import numpy as np

    from slurmeval.statistics.intervals import Floats, Matrix

    Indices = np.ndarray[tuple[int], np.dtype[np.int64]]

SLOPE_SPREAD = 0.5
"""Standard deviation of log a."""
EASE_SPREAD = 2.0
"""Standard deviation of c."""
FEWEST_MODELS = 4
"""With fewer there is too little to leave a model out of."""
CHOICES = 5
"""Choices of anchors that are tried on each model left out, for a steadier error."""


@dataclass(frozen=True)
class ItemParameters:
    """Parameters of the questions, each of shape (questions,)."""

    slopes: Floats
    """How sharply a question tells good models from bad ones (a)."""
    eases: Floats
    """How likely a model of average ability has it right, as log-odds (c)."""

    def expected(self, ability: float) -> Floats:
        """Returns the probability that a model has each question right."""
        from scipy.special import expit  # type: ignore[import-untyped]

        return expit(self.slopes * ability + self.eases)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Anchors:
    """Questions that stand for all."""

    chosen: Indices
    """Their places, in order."""
    weights: Floats
    """The share of all questions that each stands for; they add up to 1."""


def fit(answers: Matrix) -> ItemParameters:
    """Returns the parameters of the questions.

    Args:
        answers: Scores of 0 to 1, shape (models, questions).
    """
    import numpy as np
    from scipy.optimize import minimize  # type: ignore[import-untyped]
    from scipy.special import expit

    models, n = answers.shape

    def loss(packed: np.ndarray) -> tuple[float, np.ndarray]:
        abilities, logs, eases = packed[:models], packed[models : models + n], packed[models + n :]
        slopes = np.exp(logs)
        logits = abilities[:, None] * slopes + eases
        fitted = np.logaddexp(0, logits).sum() - (answers * logits).sum()
        priors = (
            (abilities**2).sum() + ((logs / SLOPE_SPREAD) ** 2).sum() + ((eases / EASE_SPREAD) ** 2).sum()
        )
        rest = expit(logits) - answers
        gradient = np.concatenate(
            [
                rest @ slopes + abilities,
                slopes * (abilities @ rest) + logs / SLOPE_SPREAD**2,
                rest.sum(axis=0) + eases / EASE_SPREAD**2,
            ]
        )
        return float(fitted + priors / 2), gradient

    means = answers.mean(axis=1)
    start = np.zeros(models + 2 * n)
    start[:models] = (means - means.mean()) / max(float(means.std()), 1e-6)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return ItemParameters(np.exp(found.x[models : models + n]), found.x[models + n :])


def choose(questions: ItemParameters, size: int, seed: int = 0) -> Anchors:
    """Returns `size` questions of all difficulties: every k-th, from the easiest to the hardest.

    Unlike the middles of clusters (Maia Polo et al., tinyBenchmarks, arXiv 2402.14992), they also do where
    only a few models have answered. Equally easy ones come in a random order, the same for a seed.
    """
    import numpy as np

    n = len(questions.eases)
    chance = np.random.default_rng(seed).random(n)
    ease = sum(questions.expected(ability) for ability in (-1.0, 0.0, 1.0))
    order = np.lexsort((chance, np.round(ease, 6)))
    places = ((np.arange(size) + 0.5) * n / size).astype(np.int64)
    return Anchors(np.sort(order[places]), np.full(size, 1 / size))


def score(questions: ItemParameters, anchors: Anchors, answers: Floats) -> float:
    """Returns the score on all questions of a model that answered the anchors alone.

    What a model of its ability is expected to answer, moved by how much it does better or worse on the
    anchors.

    Args:
        questions: The parameters of all questions.
        anchors: Which of them were answered.
        answers: The scores on these, in their order.
    """
    ability = ability_of(
        ItemParameters(questions.slopes[anchors.chosen], questions.eases[anchors.chosen]), answers
    )
    expected = questions.expected(ability)
    moved = float(anchors.weights @ (answers - expected[anchors.chosen]))
    return min(1.0, max(0.0, float(expected.mean()) + moved))


def ability_of(questions: ItemParameters, answers: Floats) -> float:
    """Returns the ability of a model from its answers to these questions; its prior is standard normal."""
    from scipy.optimize import brentq

    def slope(ability: float) -> float:
        return float(questions.slopes @ (answers - questions.expected(ability))) - ability

    return (
        float(brentq(slope, -20.0, 20.0)) if slope(-20.0) > 0 > slope(20.0) else math.copysign(20.0, slope(0))
    )


def left_out(answers: Matrix, size: int) -> list[tuple[float, list[float]]]:
    """Returns the score of each model, and its estimates from anchors that the other models' answers gave.

    Raises ValueError if there are fewer than four models, or fewer questions than anchors.
    """
    import numpy as np

    models, n = answers.shape
    if models < FEWEST_MODELS or not 1 <= size < n:
        raise ValueError(f"expected {FEWEST_MODELS} models or more, and fewer anchors than {n} questions")
    found = []
    for model in range(models):
        questions = fit(np.delete(answers, model, axis=0))
        tried = [choose(questions, size, seed) for seed in range(CHOICES)]
        estimates = [score(questions, anchors, answers[model][anchors.chosen]) for anchors in tried]
        found.append((float(answers[model].mean()), estimates))
    return found


def signal_to_noise(models: Floats, checkpoints: Floats) -> float:
    """Returns how far a benchmark's scores of models lie apart, in units of its noise over checkpoints.

    (max - min) / mean of the models, by the standard deviation / mean of a model's last checkpoints (Heineman
    et al., Signal and Noise, arXiv 2508.13144). Infinite where the checkpoints are all alike.

    Raises ValueError if there are fewer than two of either, or a mean is 0.
    """
    import numpy as np

    if (
        len(models) < 2
        or len(checkpoints) < 2
        or not float(np.mean(models))
        or not float(np.mean(checkpoints))
    ):
        raise ValueError("expected scores of two models and two checkpoints or more, with means other than 0")
    signal = float(np.ptp(models) / np.mean(models))
    noise = float(np.std(checkpoints) / np.mean(checkpoints))
    return signal / noise if noise > ROUNDING_ERROR else math.inf
