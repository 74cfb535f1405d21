"""Anchors: parameters come back, a few questions tell the score of all, and the error is an honest one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slurmeval.statistics import irt
from slurmeval.statistics.irt import signal_to_noise


def answers_of(models: int, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    abilities, slopes, eases = (
        random.normal(0, 1, models),
        np.exp(random.normal(0, 0.4, n)),
        random.normal(0, 2, n),
    )
    expected = 1 / (1 + np.exp(-(abilities[:, None] * slopes + eases)))
    return (random.random((models, n)) < expected).astype(float), abilities, eases


def test_ease_and_ability_of_a_simulation_come_back() -> None:
    answers, abilities, eases = answers_of(40, 300)
    found = irt.fit(answers)
    told = [irt.ability_of(found, row) for row in answers]
    assert np.corrcoef(found.eases, eases)[0, 1] > 0.95
    assert np.corrcoef(told, abilities)[0, 1] > 0.97


def test_anchors_of_all_questions_give_the_score_itself() -> None:
    answers, _, _ = answers_of(6, 80)
    found = irt.fit(answers)
    whole = irt.choose(found, 80)
    assert whole.chosen.tolist() == list(range(80))
    assert [irt.score(found, whole, row) for row in answers] == pytest.approx(answers.mean(axis=1).tolist())


def test_anchors_are_of_all_difficulties() -> None:
    found = irt.fit(answers_of(12, 400)[0])
    right = sum(found.expected(ability) for ability in (-1.0, 0.0, 1.0))
    for seed in range(3):
        chosen = irt.choose(found, 40, seed).chosen
        assert np.sort(right[chosen]) == pytest.approx(np.sort(right)[5::10], abs=1e-5)


def test_a_model_left_out_is_told_better_than_by_random_questions() -> None:
    answers, _, _ = answers_of(12, 400)
    checked = irt.left_out(answers, 40)
    errors = np.array([[each - value for each in estimates] for value, estimates in checked])
    random_error = math.sqrt(float(answers.var(axis=1).mean()) / 40 * (1 - 40 / 400))
    assert math.sqrt(float((errors**2).mean())) < 0.85 * random_error
    assert [value for value, _ in checked] == pytest.approx(answers.mean(axis=1).tolist())


@pytest.mark.parametrize(("right", "low", "high"), [(0.0, 0.0, 0.35), (1.0, 0.65, 1.0)])
def test_a_model_that_has_all_wrong_or_right_keeps_within_the_scale(
    right: float, low: float, high: float
) -> None:
    found = irt.fit(answers_of(8, 100)[0])
    anchors = irt.choose(found, 20)
    assert low <= irt.score(found, anchors, np.full(20, right)) <= high


def test_models_that_are_all_alike_are_fitted_too() -> None:
    same = np.tile((np.arange(50) % 2).astype(float), (5, 1))
    checked = irt.left_out(same, 10)
    assert all(abs(each - value) < 0.15 for value, estimates in checked for each in estimates)


@pytest.mark.parametrize(("models", "size"), [(3, 10), (5, 50), (5, 0)])
def test_too_few_models_or_questions_are_an_error(models: int, size: int) -> None:
    with pytest.raises(ValueError, match="expected 4 models or more"):
        irt.left_out(answers_of(models, 50)[0], size)


def test_signal_to_noise_is_the_published_one() -> None:
    models, checkpoints = np.array([0.30, 0.45, 0.60]), np.array([0.44, 0.46, 0.45, 0.47, 0.43])
    assert signal_to_noise(models, checkpoints) == pytest.approx(21.2132, abs=1e-4)
    assert signal_to_noise(models, np.full(3, 0.4)) == math.inf
    for few in (np.array([0.4]), np.zeros(3)):
        with pytest.raises(ValueError, match="expected scores of two models"):
            signal_to_noise(models, few)
