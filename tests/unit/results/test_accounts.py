"""Samples held against the gateway's log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from slurmeval.errors import EvaluationFailed
from slurmeval.gateway.log import Record
from slurmeval.gateway.thoughts import STOPS
from slurmeval.harnesses.base import Metric, Sample, Score
from slurmeval.results.accounts import Accounts
from slurmeval.results.joining import Join
from slurmeval.results.reasoning import choices_of


def record(prompt: str, answer: str | None, number: int = 1, **more: Any) -> Record:
    body = {"messages": [{"role": "user", "content": prompt}]}
    message = {"choices": [{"message": {"content": answer}, "finish_reason": "stop"}]}
    known: dict[str, Any] = dict.fromkeys(
        ("ttft_ms", "server_id", "engine_run", "prompt_tokens", "completion_tokens", "finish_reason")
    )
    known |= {"request_id": f"0001-{number:06d}", "key": f"{number:064x}", "endpoint": "/v1/chat/completions"}
    known |= {"started_at": 1.0, "latency_ms": 1.0, "attempt": 1, "content_type": "application/json"}
    refused = answer is None
    known |= {"http_status": 400 if refused else 200, "error": "the server answered 400: too long"}
    known["error"] = known["error"] if refused else None
    response = None if refused else json.dumps(message).encode()
    return Record(**known | more, request_body=json.dumps(body).encode(), response_body=response)


def sample(number: int, value: float = 1.0, output: str | None = None, **more: Any) -> Sample:
    output = f"answer {number}" if output is None else output
    scores = [Score("acc", value, correct=bool(value))]
    return Sample(str(number), "task", f"question {number}", output, scores=scores, **more)


def metric(value: float, n: int, **more: Any) -> Metric:
    return Metric("task", "acc", value, value, n_items=n, **more)


def accounts(samples: Sequence[Sample], answered: Sequence[Record], lost: Sequence[Record] = ()) -> Accounts:
    made, join = Accounts(lost), Join(samples)
    for each in answered:
        join.assign(each)
        made.answered(each, choices_of(each.response))
    made.samples(samples, join.costs.n_requests, [each.status for each in samples])
    return made


def test_an_answer_that_was_cut_at_a_stop_word_is_in_the_log() -> None:
    each = record("question 0", "<think>a. b</think>answer 0. And more", 0)
    body = json.loads(each.request_body or b"{}") | {STOPS: ["."]}
    made = Accounts([], ["<think>", "</think>"])
    each = replace(each, request_body=json.dumps(body).encode())
    made.answered(each, choices_of(each.response))
    made.samples([sample(0)], [1], ["ok"])
    assert made.n_unlogged == 0


def test_a_score_with_unanswered_samples_has_bounds() -> None:
    """Ten questions, two of them refused and scored as wrong, six of the others right."""
    samples = [sample(n, float(n < 6), "" if n >= 8 else None) for n in range(10)]
    answered = [record(f"question {n}", f"answer {n}", n) for n in range(8)]
    lost = [record(f"question {n}", None, n) for n in (8, 9)]
    made = accounts(samples, answered, lost)
    assert (made.n_unanswered, made.n_unlogged) == (2, 0)
    bounds = made.bounds(metric(0.6, 10))
    assert bounds.n_unanswered == 2
    assert bounds.value_left_out == pytest.approx(0.75)
    assert (bounds.bound_lo, bounds.bound_hi) == (pytest.approx(0.6), pytest.approx(0.8))


def test_where_the_harness_does_not_say_how_it_counted_the_bounds_hold_either_way() -> None:
    samples = [sample(n, float(n < 6)) for n in range(8)]
    answered = [record(f"question {n}", f"answer {n}", n) for n in range(8)]
    made = accounts(samples, answered, [record("step 2 of something", None, 50)])
    assert made.n_unanswered == 1
    for of in (metric(0.75, 8), metric(0.75, 8, is_group=True)):
        bounds = made.bounds(of)
        assert bounds.value_left_out is None
        assert bounds.bound_lo == pytest.approx(6 / 9)
        assert bounds.bound_hi == pytest.approx(7 / 8)


def test_what_the_harness_left_out_of_its_count_is_known() -> None:
    """Of eight scored six are right; two were refused and have no score, as Inspect does it."""
    samples = [sample(n, float(n < 6)) for n in range(8)]
    samples += [replace(sample(n, 0.0, status="error"), scores=[]) for n in (8, 9)]
    answered = [record(f"question {n}", f"answer {n}", n) for n in range(8)]
    made = accounts(samples, answered, [record(f"question {n}", None, n) for n in (8, 9)])
    for of in (metric(0.75, 8), metric(0.75, 8, is_group=True)):
        bounds = made.bounds(of)
        assert (bounds.n_unanswered, bounds.value_left_out) == (2, pytest.approx(0.75))
        assert (bounds.bound_lo, bounds.bound_hi) == (pytest.approx(0.6), pytest.approx(0.8))
    counted = made.bounds(metric(0.6, 10))  # without their scores, and as wrong
    assert counted.value_left_out is None
    assert (counted.bound_lo, counted.bound_hi) == (pytest.approx(0.5), pytest.approx(0.8))


def test_nothing_unanswered_has_no_bounds() -> None:
    made = accounts([sample(1)], [record("question 1", "answer 1")])
    assert made.n_unanswered == made.n_unlogged == 0
    bounds = made.bounds(metric(1.0, 1))
    assert (bounds.n_unanswered, bounds.bound_lo, bounds.bound_hi) == (0, None, None)
    made.check(0.0, keeps_answers=True)


@pytest.mark.parametrize(
    ("n", "lost", "reason"),
    [
        (4, 4, "none of 4 samples was answered; the last: the server answered 400: too long"),
        (
            20,
            2,
            "2 of 20 samples were not answered, more than max_unanswered (0.05) allows; "
            "the last: the server answered 400: too long",
        ),
        (20, 1, None),
    ],
)
def test_more_than_the_share_unanswered_is_no_result(n: int, lost: int, reason: str | None) -> None:
    samples = [sample(number, 0.0, status="error" if number < lost else "ok") for number in range(n)]
    answered = [record(f"question {number}", f"answer {number}", number) for number in range(lost, n)]
    made = accounts(samples, answered, [record(f"question {k}", None, k) for k in range(lost)])
    if reason is None:
        made.check(0.05, keeps_answers=True)
        return
    with pytest.raises(EvaluationFailed) as failure:
        made.check(0.05, keeps_answers=True)
    assert (failure.value.error_class, failure.value.reason) == ("bad_result", reason)


def test_answers_that_nobody_gave_are_no_result() -> None:
    samples = [sample(n) for n in range(4)]
    reason = "4 of 4 samples have answers that are not in the gateway's log"
    others = [record(f"question {n}", f"quite another answer {n}", n) for n in range(4)]
    for logged in ([], others):
        made = accounts(samples, logged)
        with pytest.raises(EvaluationFailed, match=reason):
            made.check(0.05, keeps_answers=True)
        made.check(0.05, keeps_answers=False)


def test_answers_are_known_without_their_thoughts_and_whitespace() -> None:
    samples = [sample(1, output="4"), sample(2, output=""), sample(3, output="5")]
    answered = [
        record("question 1", "<think>2 and 2</think>\n\n4 ", 1),
        record("question 2", "", 2),
        record("altered by the harness", "5", 3),
    ]
    assert accounts(samples, answered).n_unlogged == 0


def test_texts_that_a_harness_alters_say_nothing() -> None:
    samples = [sample(n, output=f"cut {n}") for n in range(3)]
    answered = [record(f"question {n}", f"answer {n}", n) for n in range(3)]
    assert accounts(samples, answered).n_unlogged is None


def test_likelihoods_are_found_by_prompt_or_counted() -> None:
    choices = {"choices": ["a", "b"], "output": "a"}
    by_prompt = [record(f"question {n} {choice}", "x", n) for n in range(2) for choice in "ab"]
    samples = [sample(n, **choices) for n in range(2)]
    assert accounts(samples, by_prompt).n_unlogged == 0
    assert accounts(samples, by_prompt[:2]).n_unlogged == 1
    assert accounts(samples, [record("tokens", "x", n) for n in range(4)]).n_unlogged == 0
    assert accounts(samples, [record("tokens", "x", 1)]).n_unlogged == 1


def test_a_request_answered_in_a_later_repeat_leaves_one_sample_unanswered() -> None:
    """Two answers were asked for; one request was refused for good."""
    samples = [sample(1), sample(1, 0.0, "", repeat_idx=1)]
    made = accounts(samples, [record("question 1", "answer 1", 1)], [record("question 1", None, 2)])
    assert made.n_unanswered == 1
