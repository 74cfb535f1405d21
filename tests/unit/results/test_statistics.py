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
    questions = statistics.Scores(_samples([1, 0, 1, 1] * 5)).of(_metric(0.75))
    spread = statistics.spread(_metric(0.75, se=0.25, n_items=20), questions)
    assert (spread.se, spread.se_method, spread.ci_method) == (0.25, "harness", "wilson")
    assert spread.ci_lo == pytest.approx(proportion_confint(15, 20, method="wilson")[0])


@pytest.mark.parametrize("questions", [_questions([1.0] * 7 + [0.0] * 7), statistics.Questions()])
def test_fewer_than_fifteen_questions_get_no_interval(questions: statistics.Questions) -> None:
    spread = statistics.spread(_metric(0.5, n_items=14, se=0.13), questions)
    assert (spread.ci_lo, spread.ci_method, spread.se) == (None, None, 0.13)


def test_repeats_are_averaged_per_question() -> None:
    samples = [
        Sample(str(i // 2), "t", "q", "a", repeat_idx=i % 2, scores=[Score("acc", value)])
        for i, value in enumerate([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    ]
    spread = statistics.spread(_metric(0.5, n_items=3), statistics.Scores(samples).of(_metric(0.5)))
    assert spread.recomputed_value == 0.5
    assert spread.se == pytest.approx(0.5 / math.sqrt(3))


def test_repeats_say_how_far_running_again_would_move_the_score() -> None:
    """The five questions of facts and of Miller's decomposition: 0.1 of 0.15 is the luck of the answers."""
    answers = ["1101", "0001", "1111", "0100", "1011"]
    samples = [
        Sample(str(number), "t", "q", "a", repeat_idx=index, scores=[Score("acc", float(value))])
        for number, question in enumerate(answers)
        for index, value in enumerate(question)
    ]
    metric = _metric(0.6, n_items=5, n_repeats=4)
    spread = statistics.spread(metric, statistics.Scores(samples).of(metric))
    assert (spread.se, spread.rerun_se) == (pytest.approx(0.15), pytest.approx(0.1))
    once = statistics.spread(_metric(0.5, n_items=2), statistics.Scores(_samples([1, 0])).of(_metric(0.5)))
    assert once.rerun_se is None


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


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("is_group", [False, True])
def test_all_right_or_all_wrong_has_an_interval_and_no_standard_error(value: float, is_group: bool) -> None:
    metric = _metric(value, se=0.0, n_items=16, is_group=is_group)
    spread = statistics.spread(metric, statistics.Questions())
    expected = proportion_confint(round(16 * value), 16, method="wilson")
    assert (spread.ci_lo, spread.ci_hi) == pytest.approx(expected, abs=1e-12)
    assert (spread.se, spread.se_method, spread.ci_method) == (None, None, "wilson")


def test_repeats_that_all_failed_have_an_interval() -> None:
    questions = statistics.Questions.of([[0.0, 0.0]] * 16)
    spread = statistics.spread(_metric(0.0, se=0.0, n_items=16, n_repeats=2), questions)
    assert (spread.ci_lo, spread.ci_hi) == pytest.approx(proportion_confint(0, 16, method="wilson"))
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
    few = statistics.spread(_metric(0.5, se=0.05, n_items=15), statistics.Questions())
    assert few.ci_hi is not None and few.ci_hi > 0.5 + 2.1 * 0.05


@settings(deadline=None)
@given(
    value=st.floats(0, 1),
    se=st.none() | st.floats(0, 0.5),
    n=st.integers(15, 10**7),
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
@given(
    st.lists(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=1, max_size=3), min_size=15, max_size=30)
)
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


def _clustered(values: list[float], **of: list[str]) -> statistics.Scores:
    scores = statistics.Scores()
    for number, value in enumerate(values):
        told = {name: names[number] for name, names in of.items()}
        scores.add([Sample(str(number), "t", "q", "a", scores=[Score("acc", value)], **told)])
    return scores


@pytest.mark.parametrize("column", ["cluster", "category"])
def test_questions_of_a_passage_or_subject_widen_the_interval(column: str) -> None:
    values = [float(number // 5 % 2) for number in range(100)]
    scores = _clustered(values, **{column: [f"passage {number // 5}" for number in range(100)]})
    metric = _metric(0.5, n_items=100, se=0.05)
    found, plain = statistics.spread(metric, scores.of(metric)), statistics.spread(metric, _questions(values))
    assert (found.n_clusters, found.se_method, found.harness_se) == (20, "clusters", 0.05)
    # Each passage is all right or all wrong: as sure as 20 questions
    assert found.se == pytest.approx(0.5 / math.sqrt(19))
    assert found.ci_lo is not None and plain.ci_lo is not None and found.ci_lo < plain.ci_lo - 0.1


def test_few_passages_are_refused_an_interval_and_few_subjects_are_the_make_up() -> None:
    values, names = [1.0, 0.0] * 20, [f"p{number // 10}" for number in range(40)]
    metric = _metric(0.5, n_items=40)
    passages = _clustered(values, cluster=names).of(metric)
    assert statistics.spread(metric, passages).n_clusters == 4
    assert statistics.spread(metric, passages).ci_lo is None
    subjects = statistics.spread(metric, _clustered(values, category=names).of(metric))
    assert (subjects.n_clusters, subjects.ci_method) == (None, "wilson")


@pytest.mark.parametrize(("value", "weights"), [(0.4, "equal"), (0.25, "by size")])
def test_a_group_s_error_is_by_the_weights_that_give_the_harness_s_score(value: float, weights: str) -> None:
    scores = statistics.Scores()
    for task, right, of in (("a", 10, 80), ("b", 9, 12), ("c", 13, 40), ("d", 10, 36)):
        for number in range(of):
            scores.add([Sample(str(number), task, "q", "a", scores=[Score("acc", float(number < right))])])
    means = [10 / 80, 9 / 12, 13 / 40, 10 / 36]
    value = math.fsum(means) / 4 if weights == "equal" else 42 / 168
    metric = _metric(value, task="g", is_group=True, n_items=168, se=0.2, parts=["a", "b", "c", "d"])
    found = statistics.spread(metric, scores.of(metric))
    sizes = [80, 12, 40, 36]
    shares = [1 / 4] * 4 if weights == "equal" else [size / 168 for size in sizes]
    errors = [math.sqrt(p * (1 - p) / (n - 1)) for p, n in zip(means, sizes, strict=True)]
    expected = math.hypot(*(share * error for share, error in zip(shares, errors, strict=True)))
    assert (found.se, found.se_method) == (pytest.approx(expected), "tasks")
    otherwise = _metric(0.9, task="g", is_group=True, n_items=168, se=0.02, parts=["a", "b", "c", "d"])
    assert statistics.spread(otherwise, scores.of(otherwise)).se_method == "harness"
