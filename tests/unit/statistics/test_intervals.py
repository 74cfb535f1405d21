"""Intervals of one score: published values, other libraries' values, and how often they hold the truth."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import statsmodels.api as sm  # type: ignore[import-untyped]
from statsmodels.stats.proportion import proportion_confint  # type: ignore[import-untyped]

from slurmeval.statistics import intervals
from slurmeval.statistics.intervals import (
    Part,
    estimate,
    estimate_parts,
    mean_of_benchmarks,
    pass_at_k,
    pass_hat_k,
    repeats,
)


def right_of(right: int, n: int) -> np.ndarray:
    return np.repeat([1.0, 0.0], [right, n - right])


@pytest.mark.parametrize(("right", "n"), [(81, 263), (9, 15), (0, 20), (20, 20), (1, 1319)])
def test_right_or_wrong_answers_get_wilsons_interval_as_statsmodels_gives_it(right: int, n: int) -> None:
    found = estimate(right_of(right, n)).interval
    assert found is not None
    assert found.method == "wilson"
    assert (found.low, found.high) == pytest.approx(proportion_confint(right, n, method="wilson"), abs=1e-12)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        *((81, 263, 0.2552885, 0.3662096), (0, 20, 0, 0.1611), (28, 30, 0.7868, 0.9815)),
        *((9, 10, 0.5958500, 0.9821238), (10, 10, 0.7224672, 1.0)),
    ],
)
def test_wilsons_interval_is_the_published_one(right: int, n: int, low: float, high: float) -> None:
    assert intervals.wilson(right, n) == pytest.approx((low, high), abs=5e-5)


@hypothesis.given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_is_that_of_statsmodels(counts: tuple[int, int]) -> None:
    expected = proportion_confint(*counts, alpha=0.05, method="wilson")
    assert intervals.wilson(*counts) == pytest.approx(expected, abs=1e-12)


def test_clusters_enter_the_error_as_in_statsmodels_and_inspect() -> None:
    values = np.array([1, 1, 1, 0, 0, 0, 1, 1, 0, 1.0])
    clusters = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3, 3])
    fit = sm.OLS(values, np.ones(10)).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    # statsmodels also multiplies by (n - 1) / (n - k), which is 1 for one coefficient
    assert intervals.standard_error(values, clusters) == pytest.approx(0.2673325, abs=1e-7)
    assert intervals.standard_error(values, clusters) == pytest.approx(float(fit.bse[0]), abs=1e-9)
    assert intervals.standard_error(values) == pytest.approx(0.1632993, abs=1e-7)
    assert intervals.standard_error(np.arange(10.0)) == pytest.approx(0.957, abs=5e-4)


def test_four_clusters_of_three_and_every_fourth_of_twenty() -> None:
    values = np.array([float(digit) for digit in "111000101100"])
    assert intervals.standard_error(values) == pytest.approx(0.150756, abs=1e-6)
    assert intervals.standard_error(values, np.arange(12) // 3) == pytest.approx(0.215166, abs=1e-6)
    assert intervals.standard_error(np.arange(20.0), np.arange(20) % 4) == pytest.approx(0.645, abs=5e-4)


def test_five_tasks_of_a_group_are_clusters_by_their_weights() -> None:
    sizes, random = [10, 20, 30, 40, 50], np.random.default_rng(3)
    tasks = [(random.random(size) < 0.6).astype(float) for size in sizes]
    pooled = np.concatenate(tasks)
    by_size = estimate_parts([Part(len(task) / 150, task) for task in tasks])
    assert by_size.value == pytest.approx(float(pooled.mean()))
    assert by_size.se == pytest.approx(intervals.standard_error(pooled, np.repeat(np.arange(5), sizes)))
    equal = estimate_parts([Part(1 / 5, task) for task in tasks])
    means = [float(task.mean()) for task in tasks]
    assert (equal.value, equal.n, equal.n_clusters) == (pytest.approx(np.mean(means)), 150, 5)
    assert equal.se == pytest.approx(np.std(means, ddof=1) / np.sqrt(5))


def test_fewer_tasks_are_the_make_up_of_a_group() -> None:
    first, second = right_of(5, 20), right_of(30, 40)
    found = estimate_parts([Part(0.25, first), Part(0.75, second)])
    errors = [intervals.standard_error(values) or 0 for values in (first, second)]
    assert found.value == pytest.approx(0.25 * 0.25 + 0.75 * 0.75)
    assert found.se == pytest.approx(np.hypot(0.25 * errors[0], 0.75 * errors[1]))
    assert (found.n_clusters, found.refusal) == (None, None)
    alone = estimate_parts([Part(0.5, first), Part(0.5, right_of(1, 1))])
    assert (alone.se, alone.interval) == (None, None)


@hypothesis.given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 6)), min_size=15))
def test_order_of_questions_does_not_matter_to_an_interval(rows: list[tuple[float, int]]) -> None:
    one, other = (
        estimate(np.array([value for value, _ in each]), np.array([cluster for _, cluster in each]))
        for each in (rows, rows[::-1])
    )
    assert (one.n_clusters, one.refusal) == (other.n_clusters, other.refusal)
    assert one.se == pytest.approx(other.se, abs=1e-9)
    if one.interval is not None and other.interval is not None:
        assert (one.interval.low, one.interval.high) == pytest.approx(
            (other.interval.low, other.interval.high), abs=1e-6
        )


def test_questions_in_clusters_of_one_are_independent() -> None:
    values = right_of(12, 40)
    assert estimate(values, np.arange(40)) == estimate(values)


@pytest.mark.parametrize(
    ("values", "clusters", "reason"),
    [
        (right_of(9, 14), None, "14 questions; an interval needs at least 15"),
        (right_of(20, 40), np.arange(40) // 10, "4 clusters of questions; an interval needs at least 5"),
    ],
)
def test_too_few_questions_are_refused_an_interval_and_told_why(
    values: np.ndarray, clusters: np.ndarray | None, reason: str
) -> None:
    found = estimate(values, clusters)
    assert (found.interval, found.refusal) == (None, reason)


@pytest.mark.parametrize("values", [[], [0.5, float("nan")], [float("inf")]])
def test_no_scores_and_scores_that_are_no_numbers_are_errors(values: list[float]) -> None:
    with pytest.raises(ValueError, match="expected at least one score"):
        estimate(np.array(values))


def test_scores_beyond_one_get_students_t() -> None:
    values = np.arange(20.0)
    found = estimate(values).interval
    assert found is not None
    half = 2.093024 * np.std(values, ddof=1) / np.sqrt(20)
    assert (found.low, found.high) == pytest.approx((9.5 - half, 9.5 + half), abs=1e-5)


def test_repeats_are_split_into_questions_and_luck() -> None:
    answers = np.array([[1, 1, 0, 1], [0, 0, 0, 1], [1, 1, 1, 1], [0, 1, 0, 0], [1, 0, 1, 1.0]])
    found = repeats(answers)
    assert (found.se, found.rerun_se) == pytest.approx((0.15, 0.1))
    assert (found.within, found.between) == pytest.approx((0.05, 0.0625))


def test_mean_and_t_of_ten_numbers_are_the_published_ones() -> None:
    values = np.arange(10.0)
    half = intervals.student_t(9) * (intervals.standard_error(values) or 0)
    assert (4.5 - half, 4.5 + half) == pytest.approx((2.33415, 6.66585), abs=1e-5)


def test_pass_at_k_and_pass_hat_k() -> None:
    assert pass_at_k(10, 3, 5) == pytest.approx(0.916667, abs=1e-6)
    assert pass_at_k(8, 3, 1) == pytest.approx(0.375)
    assert pass_at_k(8, 3, 4) == pytest.approx(0.9285714, abs=1e-7)
    assert pass_hat_k(8, 3, 2) == pytest.approx(0.1071429, abs=1e-7)
    assert pass_at_k(8, 6, 4) == 1
    with pytest.raises(ValueError, match="expected 0 ≤ right ≤ n"):
        pass_at_k(4, 5, 1)


def test_mean_of_benchmarks_weighs_each_the_same() -> None:
    assert mean_of_benchmarks([0.2, 0.6], [0.03, 0.04]) == pytest.approx((0.4, 0.025))
    assert mean_of_benchmarks([0.2, 0.6], [0.03, None]) == (0.4, None)


def coverage(draw: object, truth: float, times: int) -> float:
    """Share of intervals that hold `truth`; `draw` gives values and clusters."""
    held = 0
    for number in range(times):
        values, clusters = draw(np.random.default_rng(number))  # type: ignore[operator]
        found = estimate(values, clusters).interval
        assert found is not None
        assert 0 <= found.low <= found.high <= 1
        held += found.low <= truth <= found.high
    return held / times


@pytest.mark.parametrize("p", [0.02, 0.1, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("n", [15, 60, 500, 2000])
def test_intervals_of_right_or_wrong_answers_hold_the_truth(n: int, p: float) -> None:
    # Exact: over all counts, with their probabilities
    from scipy.stats import binom  # type: ignore[import-untyped]

    counts = np.arange(n + 1)
    held = [low <= p <= high for low, high in (intervals.wilson(int(k), n) for k in counts)]
    assert float(binom.pmf(counts, n, p)[held].sum()) >= 0.90


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("groups", [5, 20, 200])
def test_intervals_of_clustered_answers_hold_the_truth(groups: int, p: float) -> None:
    def draw(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        # Five questions of a passage; each passage has a difficulty of its own (ICC .2)
        difficulty = np.repeat(random.beta(p * 4, (1 - p) * 4, groups), 5)
        return (random.random(groups * 5) < difficulty).astype(float), np.arange(groups * 5) // 5

    assert coverage(draw, p, 300) >= 0.91


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("n", [15, 60, 500])
def test_intervals_of_repeated_answers_hold_the_truth(n: int, p: float) -> None:
    def draw(random: np.random.Generator) -> tuple[np.ndarray, None]:
        chance = random.beta(p, 1 - p, n)
        return random.binomial(4, chance) / 4, None

    assert coverage(draw, p, 300) >= 0.91
