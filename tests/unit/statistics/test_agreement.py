"""Agreement and strengths are those of krippendorff, statsmodels, scipy and choix."""

from __future__ import annotations

import choix  # type: ignore[import-untyped]
import hypothesis
import hypothesis.strategies as st
import krippendorff  # type: ignore[import-untyped]
import numpy as np
import pytest
from scipy.stats import kendalltau  # type: ignore[import-untyped]
from statsmodels.stats import inter_rater  # type: ignore[import-untyped]

from slurmeval.statistics import agreement, bradley_terry

_ = np.nan
# K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): 4 raters, 12 units
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
        [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
    ]
)
# https://en.wikipedia.org/wiki/Fleiss'_kappa: 10 units, 14 raters
FLEISS = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ],
    dtype=float,
)


@pytest.mark.parametrize(
    ("level", "alpha"),
    [("nominal", 0.7434211), ("ordinal", 0.8153875), ("interval", 0.8491071), ("ratio", 0.7974028)],
)
def test_alpha_of_krippendorffs_own_table(level: agreement.Level, alpha: float) -> None:
    assert agreement.krippendorff_alpha(KRIPPENDORFF, level) == pytest.approx(alpha, abs=5e-8)
    interval = agreement.alpha_interval(KRIPPENDORFF, level)
    assert interval is not None and interval.low < alpha < interval.high
    assert interval == agreement.alpha_interval(KRIPPENDORFF, level)


@hypothesis.given(
    st.lists(st.lists(st.sampled_from([1.0, 2.0, 3.0, 5.0, np.nan]), min_size=3, max_size=3), min_size=3)
)
def test_alpha_is_that_of_the_library(rows: list[list[float]]) -> None:
    ratings = np.array(rows).T
    for level in ("nominal", "ordinal", "interval", "ratio"):
        ours = agreement.krippendorff_alpha(ratings, level)
        twice = ratings[:, (~np.isnan(ratings)).sum(axis=0) > 1]
        if len(np.unique(twice[~np.isnan(twice)])) > 1:
            theirs = krippendorff.alpha(ratings, level_of_measurement=level)
            assert ours == pytest.approx(theirs)
        else:
            assert ours is None


def test_more_units_give_a_narrower_interval_and_clusters_a_wider_one() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(1, 6, 100)
    ratings = np.array([np.clip(truth + rng.integers(-1, 2, 100), 1, 5) for _ in range(2)], dtype=float)
    few, many = (agreement.alpha_interval(ratings[:, :n], "ordinal") for n in (25, 100))
    assert few is not None and many is not None and many.high - many.low < few.high - few.low
    same = np.repeat(ratings[:, :10], 10, axis=1)
    apart = agreement.alpha_interval(same, "ordinal")
    together = agreement.alpha_interval(same, "ordinal", np.repeat(np.arange(10), 10))
    assert apart is not None and together is not None
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_cohens_kappa_and_its_error() -> None:
    assert agreement.cohen_kappa(np.array([[20.0, 5], [10, 15]])) == pytest.approx((0.4, 0.1269961))
    table = np.array([[10.0, 3, 1], [2, 12, 4], [0, 3, 15]])
    for quadratic in (False, True):
        theirs = inter_rater.cohens_kappa(
            table, weights=np.arange(3) if quadratic else None, wt=None if not quadratic else "quadratic"
        )
        assert agreement.cohen_kappa(table, quadratic) == pytest.approx((theirs.kappa, theirs.std_kappa))
    assert agreement.cohen_kappa(np.array([[3.0, 0], [0, 0]])) is None


def test_fleiss_kappa() -> None:
    assert agreement.fleiss_kappa(FLEISS) == pytest.approx(0.2099307, abs=5e-8)
    assert agreement.fleiss_kappa(FLEISS) == pytest.approx(inter_rater.fleiss_kappa(FLEISS))
    assert agreement.fleiss_kappa(np.array([[2.0, 1], [1, 1]])) is None


@hypothesis.given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=30))
def test_kendalls_tau_is_scipys(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(values, dtype=float) for values in zip(*pairs, strict=True))
    ours = agreement.kendall_tau(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert ours is None
    else:
        assert ours == pytest.approx(kendalltau(a, b).statistic)


WINS = np.array([[0.0, 7, 8], [3, 0, 6], [2, 4, 0]])


def test_strengths_are_choix() -> None:
    found = bradley_terry.strengths(WINS)
    assert found == pytest.approx([0.7405697, -0.1491022, -0.5914675], abs=5e-7)
    assert 1 / (1 + np.exp(found[1] - found[0])) == pytest.approx(0.7088225, abs=5e-7)
    elo = 1000 + bradley_terry.ELO_PER_UNIT * found
    assert elo == pytest.approx([1128.65, 974.10, 897.25], abs=0.005)
    games = [(a, b) for a in range(3) for b in range(3) for _ in range(int(WINS[a, b]))]
    assert found == pytest.approx(choix.opt_pairwise(3, games), abs=1e-5)


def test_strengths_of_some_who_never_lost_are_undecided() -> None:
    assert not bradley_terry.undecided(WINS)
    assert bradley_terry.undecided(np.array([[0.0, 5, 5], [0, 0, 3], [0, 2, 0]]))
    assert bradley_terry.undecided(np.array([[0.0, 2, 0], [1, 0, 0], [0, 0, 0]]))


def test_intervals_of_strengths_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    truth = np.array([0.6, 0.0, -0.6])
    chances = 1 / (1 + np.exp(truth[None] - truth[:, None]))
    held = 0
    for _ in range(40):
        wins = np.zeros((80, 3, 3))
        for a, b in ((0, 1), (0, 2), (1, 2)):
            won = rng.random(80) < chances[a, b]
            wins[:, a, b], wins[:, b, a] = won, ~won
        assert bradley_terry.intervals(wins[:14]) == [None] * wins.shape[-1]
        interval = bradley_terry.intervals(wins)[0]
        assert interval is not None
        held += interval.low <= truth[0] <= interval.high
    assert held >= 34
