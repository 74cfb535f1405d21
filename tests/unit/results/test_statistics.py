"""Intervals and checks, against published numbers and against statsmodels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
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


def _questions(values: Sequence[float]) -> statistics.Questions:
    return statistics.Questions.of([[value] for value in values])


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
    expected = proportion_confint(1.5, 3, method="wilson")
    assert (spread.ci_lo, spread.ci_hi) == pytest.approx(expected)


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
    assert statistics.spread(metric, _questions(samples)).mismatch is mismatch


def test_scores_are_told_apart_by_task_subset_metric_and_filter() -> None:
    samples = _samples([1.0, 0.0], category="a") + _samples([0.0], category="b")
    samples[0].scores.append(Score("acc", 0.25, filter="strict"))
    scores = statistics.Scores(samples[:2])
    assert list(scores.of(_metric(0.5)).means) == [1.0, 0.0]
    assert list(scores.of(_metric(0.5, subset="a")).means) == [1.0, 0.0]
    assert list(scores.of(_metric(0.25, filter="strict")).means) == [0.25]
    assert scores.of(_metric(0.5, subset="c")) == statistics.Questions()
    assert scores.of(_metric(0.5, is_group=True)) == statistics.Questions()


def test_missing_scores_are_not_zero() -> None:
    scores = statistics.Scores(_samples([1.0, None, None]))
    assert list(scores.of(_metric(1.0)).means) == [1.0]


def test_nothing_known_gives_nothing() -> None:
    none = statistics.Questions()
    assert statistics.spread(_metric(None), none) == statistics.Spread()
    assert statistics.spread(_metric(0.5, n_items=None), none) == statistics.Spread()
    assert statistics.spread(_metric(0.5, se=0.1, n_items=1), none).ci_lo is None


def test_a_standard_error_of_right_or_wrong_answers_gives_wilsons_interval() -> None:
    """28 of 30 as a harness writes it, without its samples; as a group; and where they contradict it."""
    error = math.sqrt(28 / 30 * 2 / 30 / 29)
    metric = _metric(28 / 30, se=error, n_items=30)
    group = _metric(28 / 30, se=error, n_items=30, is_group=True)
    contradicted = _questions([1.0] * 20 + [0.0] * 10)
    for row, questions in ((metric, statistics.Questions()), (group, contradicted), (metric, contradicted)):
        spread = statistics.spread(row, questions)
        assert spread.ci_method == "wilson"
        expected = proportion_confint(28, 30, method="wilson")
        assert (spread.ci_lo, spread.ci_hi) == pytest.approx(expected, abs=1e-9)


def test_two_questions_give_an_interval_between_nothing_and_all() -> None:
    spread = statistics.spread(_metric(0.5, se=0.5, n_items=2), statistics.Questions())
    assert (spread.ci_lo, spread.ci_hi) == pytest.approx(proportion_confint(1, 2, method="wilson"))


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("is_group", [False, True])
def test_all_right_or_all_wrong_has_an_interval_and_no_standard_error(value: float, is_group: bool) -> None:
    metric = _metric(value, se=0.0, n_items=12, is_group=is_group)
    spread = statistics.spread(metric, statistics.Questions())
    expected = proportion_confint(round(12 * value), 12, method="wilson")
    assert (spread.ci_lo, spread.ci_hi) == pytest.approx(expected, abs=1e-12)
    assert (spread.se, spread.se_method, spread.ci_method) == (None, None, "wilson")


def test_repeats_that_all_failed_have_an_interval() -> None:
    questions = statistics.Questions.of([[0.0, 0.0]] * 4)
    spread = statistics.spread(_metric(0.0, se=0.0, n_items=4, n_repeats=2), questions)
    assert (spread.ci_lo, spread.ci_hi) == pytest.approx(proportion_confint(0, 4, method="wilson"))
    assert spread.se is None


def test_without_standard_error_the_number_of_questions_gives_the_interval() -> None:
    spread = statistics.spread(_metric(0.5, n_items=20), statistics.Questions())
    assert (spread.ci_lo, spread.ci_hi) == pytest.approx(proportion_confint(10, 20, method="wilson"))


def test_an_average_over_parts_without_standard_error_has_no_interval() -> None:
    """How much its parts weigh is not known."""
    spread = statistics.spread(_metric(0.5, n_items=20, is_group=True), statistics.Questions())
    assert spread.ci_lo is None


def test_scores_between_right_and_wrong_count_as_many_questions_as_give_their_error() -> None:
    spread = statistics.spread(_metric(0.5, se=0.05, n_items=10_000), statistics.Questions())
    assert (spread.ci_lo, spread.ci_hi) == pytest.approx(
        proportion_confint(50, 100, method="wilson"), abs=1e-4
    )
    few = statistics.spread(_metric(0.5, se=0.05, n_items=5), statistics.Questions())
    assert few.ci_hi is not None and few.ci_hi > 0.5 + 2.5 * 0.05


@settings(deadline=None)
@given(
    value=st.floats(0, 1),
    se=st.none() | st.floats(0, 0.5),
    n=st.integers(2, 10**7),
    is_group=st.booleans(),
)
def test_intervals_of_proportions_lie_within_their_bounds_and_have_a_width(
    value: float, se: float | None, n: int, is_group: bool
) -> None:
    metric = _metric(value, se=se, n_items=n, is_group=is_group)
    spread = statistics.spread(metric, statistics.Questions())
    if spread.ci_lo is None or spread.ci_hi is None:
        assert is_group and se is None
        return
    assert 0 <= spread.ci_lo <= value <= spread.ci_hi <= 1
    assert spread.ci_lo < spread.ci_hi
    assert spread.se is None or spread.se > 0


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=1, max_size=3), min_size=1, max_size=20))
def test_intervals_from_samples_lie_within_their_bounds_and_have_a_width(values: list[list[float]]) -> None:
    means = [math.fsum(answers) / len(answers) for answers in values]
    mean = math.fsum(means) / len(means)
    spread = statistics.spread(_metric(mean, n_items=len(values)), statistics.Questions.of(values))
    assert spread.ci_lo is not None and spread.ci_hi is not None
    assert 0 <= spread.ci_lo <= mean <= spread.ci_hi <= 1
    assert spread.ci_hi - spread.ci_lo > 0.01


@pytest.mark.parametrize("written", [54.17, 1.2, -0.1])
def test_a_score_off_its_scale_is_flagged(written: float) -> None:
    metric = _metric(None, harness_value=written, n_items=24)
    spread = statistics.spread(metric, _questions([1.0] * 13 + [0.0] * 11))
    assert (spread.recomputed_value, spread.mismatch, spread.ci_lo) == (pytest.approx(13 / 24), True, None)
    assert statistics.spread(metric, statistics.Questions()).mismatch is True


def test_what_is_no_proportion_has_neither_mean_nor_error() -> None:
    metric = _metric(None, harness_value=0.79, harness_scale=None, se=0.21)
    spread = statistics.spread(metric, _questions([-0.47, -0.2]))
    assert spread == statistics.Spread()


def test_chance_is_told_by_the_choices_of_questions_right_or_wrong() -> None:
    samples = _samples([1.0, 0.0], choices=["a", "b"]) + _samples([0.0], choices=["a", "b", "c", "d"])
    for number, sample in enumerate(samples):
        sample.native_id = str(number)
    assert statistics.Scores(samples).of(_metric(1 / 3)).chance == pytest.approx((1 / 2 + 1 / 2 + 1 / 4) / 3)
    weighed = _samples([0.5, 0.25], choices=["a", "b"])
    assert statistics.Scores(weighed).of(_metric(0.375)).chance is None
    assert statistics.Scores(_samples([1.0])).of(_metric(1.0)).chance is None


def test_chance_of_a_group_is_that_over_its_tasks() -> None:
    four = [Sample(str(i), "a", "q", "a", choices=list("abcd"), scores=[Score("acc", 1.0)]) for i in range(3)]
    two = [Sample(str(i), "b", "q", "a", choices=list("ab"), scores=[Score("acc", 0.0)]) for i in range(1)]
    scores = statistics.Scores([*four, *two])
    whole = _metric(0.75, task="g", is_group=True, n_items=4)
    assert scores.of(whole).chance == pytest.approx((3 / 4 + 1 / 2) / 4)
    assert scores.of(_metric(0.75, task="g", is_group=True, n_items=3)).chance is None
    mean = _metric(0.5, task="g", is_group=True, n_items=4, mean_of=["a", "b"])
    assert scores.of(mean).chance == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert scores.of(_metric(0.5, task="g", is_group=True, mean_of=["a", "c"])).chance is None
