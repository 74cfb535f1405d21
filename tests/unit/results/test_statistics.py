"""Intervals and checks, against published numbers and against statsmodels."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from slurmeval.harnesses.base import Metric, Sample, Score
from slurmeval.results import statistics


def _metric(value: float | None, **more: object) -> Metric:
    values = {"task": "t", "metric": "acc", "value": value, "harness_value": value, "n_items": 10} | more
    return Metric(**values)  # type: ignore[arg-type]


def _samples(values: list[float | None], **more: object) -> list[Sample]:
    return [
        Sample(str(i), "t", "q", "a", scores=[Score("acc", value)], **more)  # type: ignore[arg-type]
        for i, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (0, 20, 0, 0.1611), (28, 30, 0.7868, 0.9815)],
)
def test_wilson_interval_is_the_published_one(right: int, n: int, low: float, high: float) -> None:
    assert statistics.wilson(right, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_that_of_statsmodels(counts: tuple[int, int]) -> None:
    expected = proportion_confint(*counts, alpha=0.05, method="wilson")
    assert statistics.wilson(*counts) == pytest.approx(expected, abs=1e-12)


def test_standard_error_of_independent_questions() -> None:
    assert statistics.standard_error(range(10)) == pytest.approx(0.957, abs=5e-4)


def test_student_interval_is_the_published_one() -> None:
    values = [float(i) for i in range(10)]
    spread = statistics.spread(_metric(4.5), [[value] for value in values])
    assert (spread.ci_lo, spread.ci_hi) == pytest.approx((2.33415, 6.66585), abs=5e-6)
    assert (spread.ci_method, spread.se_method, spread.mismatch) == ("student_t", "questions", False)


def test_binary_scores_get_wilson_and_keep_the_harness_error() -> None:
    questions = statistics.Scores(_samples([1, 0, 1, 1])).of(_metric(0.75))
    spread = statistics.spread(_metric(0.75, se=0.25, n_items=4), questions)
    assert (spread.se, spread.se_method, spread.ci_method) == (0.25, "harness", "wilson")
    assert spread.ci_lo == pytest.approx(proportion_confint(3, 4, method="wilson")[0])


def test_repeats_are_averaged_per_question() -> None:
    samples = [
        Sample(str(i // 2), "t", "q", "a", repeat_idx=i % 2, scores=[Score("acc", value)])
        for i, value in enumerate([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    ]
    spread = statistics.spread(_metric(0.5, n_items=3), statistics.Scores(samples).of(_metric(0.5)))
    assert spread.recomputed_value == 0.5
    assert spread.se == pytest.approx(0.5 / math.sqrt(3))
    assert spread.ci_method == "student_t"


def test_a_value_that_the_samples_contradict_is_flagged_and_gets_no_wilson_interval() -> None:
    questions = statistics.Scores(_samples([1.0] * 600 + [0.0] * 400)).of(_metric(0.6))
    spread = statistics.spread(_metric(0.601, n_items=1000), questions)
    assert (spread.recomputed_value, spread.mismatch, spread.ci_lo) == (0.6, True, None)


@pytest.mark.parametrize(
    ("written", "scale", "samples", "mismatch"),
    [
        (66.67, 100, [1, 1, 0], False),
        (66.66, 100, [1, 1, 0], True),
        (0.6667, 1, [1, 1, 0], False),
        (2 / 3, 1, [1, 1, 0], False),
        (0.66666, 1, [1, 1, 0], True),
        (100.0, 100, [1, 1], False),
    ],
)
def test_rounding_of_the_harness_is_no_mismatch(
    written: float, scale: int, samples: list[float], mismatch: bool
) -> None:
    metric = _metric(written / scale, harness_value=written, harness_scale=scale)
    assert statistics.spread(metric, [[value] for value in samples]).mismatch is mismatch


def test_scores_are_told_apart_by_task_subset_metric_and_filter() -> None:
    samples = _samples([1.0, 0.0], category="a") + _samples([0.0], category="b")
    samples[0].scores.append(Score("acc", 0.25, filter="strict"))
    scores = statistics.Scores(samples[:2])
    assert scores.of(_metric(0.5)) == [[1.0], [0.0]]
    assert scores.of(_metric(0.5, subset="a")) == [[1.0], [0.0]]
    assert scores.of(_metric(0.25, filter="strict")) == [[0.25]]
    assert scores.of(_metric(0.5, subset="c")) == []
    assert scores.of(_metric(0.5, is_group=True)) == []


def test_missing_scores_are_not_zero() -> None:
    scores = statistics.Scores(_samples([1.0, None, None]))
    assert scores.of(_metric(1.0)) == [[1.0]]


def test_nothing_known_gives_nothing() -> None:
    assert statistics.spread(_metric(None), []) == statistics.Spread()
    assert statistics.spread(_metric(0.5, n_items=None), []) == statistics.Spread()
    assert statistics.spread(_metric(0.5, se=0.1, n_items=1), []).ci_lo is None


def test_the_harness_error_gives_an_interval_where_samples_carry_no_score() -> None:
    spread = statistics.spread(_metric(0.5, se=0.1, n_items=10), [])
    assert (spread.ci_method, spread.mismatch) == ("student_t", None)
    assert spread.ci_hi == pytest.approx(0.5 + 2.262157 * 0.1, abs=1e-6)
