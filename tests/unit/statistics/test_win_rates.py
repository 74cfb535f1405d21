"""Win rates with length held equal, against statsmodels and simulated judges."""

from __future__ import annotations

import numpy as np
import pytest

from slurmeval.statistics.win_rates import length_feature, share_feature, win_rate


def simulated(
    n: int, quality: float, bias: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wins, lengths of the first and of the second answers; a judge who likes long ones by `bias`."""
    random = np.random.default_rng(seed)
    first, second = random.lognormal(5.5, 0.5, n), random.lognormal(5, 0.5, n)
    odds = quality + bias * length_feature(first, second)
    return (random.random(n) < 1 / (1 + np.exp(-odds))).astype(float), first, second


def test_the_fit_is_that_of_statsmodels() -> None:
    import statsmodels.api as sm

    wins, first, second = simulated(500, 0.2, 1.5)
    feature = length_feature(first, second)
    found = win_rate(wins, feature[:, None], np.arange(500))
    known = sm.GLM(wins, sm.add_constant(feature), family=sm.families.Binomial()).fit()
    assert found.controlled == pytest.approx(1 / (1 + np.exp(-known.params[0])), abs=1e-4)
    assert found.effects[0] == pytest.approx(known.params[1], rel=1e-3)
    assert found.raw == wins.mean()


def test_a_judge_of_length_alone_has_no_winner_at_equal_length() -> None:
    wins, first, second = simulated(2000, 0.0, 2.0)
    found = win_rate(wins, length_feature(first, second)[:, None], np.arange(2000))
    assert found.raw > 0.6
    assert found.controlled == pytest.approx(0.5, abs=0.05)
    assert found.controlled_interval is not None
    assert found.controlled_interval.low < 0.5 < found.controlled_interval.high


def test_several_answers_to_a_prompt_do_not_narrow_the_interval() -> None:
    wins, first, second = simulated(100, 0.4, 1.0)
    feature = length_feature(first, second)
    once = win_rate(wins, feature[:, None], np.arange(100))
    again = win_rate(np.repeat(wins, 6), np.repeat(feature, 6)[:, None], np.repeat(np.arange(100), 6))
    widths = [found.raw_interval.high - found.raw_interval.low for found in (once, again)]
    assert widths[1] == pytest.approx(widths[0], rel=1e-6)


def test_a_judge_who_always_says_the_same_gives_a_rate_and_no_error() -> None:
    found = win_rate(np.ones(30), np.zeros((30, 1)), np.arange(30))
    assert (found.raw, found.raw_interval) == (1.0, None)
    assert found.controlled > 0.99


def test_differences_are_between_minus_one_and_one() -> None:
    lengths = np.array([10.0, 1e9, 5.0])
    assert np.abs(length_feature(lengths, lengths[::-1])).max() <= 1
    assert length_feature(lengths, lengths).tolist() == [0, 0, 0]
    assert share_feature(np.array([3.0, 0, 0]), np.array([1.0, 0, 2])).tolist() == [0.5, 0, -1]


def test_few_prompts_have_a_rate_and_no_interval() -> None:
    wins, first, second = simulated(14, 0.2, 1.0)
    found = win_rate(wins, length_feature(first, second)[:, None], np.arange(14))
    assert (found.raw_interval, found.controlled_interval) == (None, None)
