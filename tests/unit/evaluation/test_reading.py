"""What a failure says where the server refused requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.evaluation.reading import refusals_named
from tests.unit.gateway.test_gateway_log import exchange, write_segment

ANSWERED = exchange(1, "aa" * 32)
REFUSED = [
    exchange(number, f"{number:02d}" * 32, http_status=400, error=f"the server answered 400: no {number}")
    for number in (2, 3)
]


def failed(log: Path, error_class: ErrorClass = ErrorClass.HARNESS_ERROR) -> tuple[ErrorClass, str]:
    with pytest.raises(EvaluationFailed) as caught, refusals_named(log):
        raise EvaluationFailed(error_class, "it ended with status 1")
    return caught.value.error_class, caught.value.reason


def test_where_nothing_was_answered_that_is_the_reason(tmp_path: Path) -> None:
    write_segment(tmp_path, *REFUSED)
    reason = "none of 2 requests was answered; the last: the server answered 400: no 3"
    assert failed(tmp_path) == (ErrorClass.BAD_RESULT, reason)


def test_what_was_refused_comes_before_the_harnesss_last_words(tmp_path: Path) -> None:
    write_segment(tmp_path, ANSWERED, *REFUSED)
    words = "2 requests were not answered; the last: the server answered 400: no 3. it ended with status 1"
    assert failed(tmp_path) == (ErrorClass.HARNESS_ERROR, words)
    write_segment(tmp_path, ANSWERED, number=2)
    assert failed(tmp_path) == (ErrorClass.HARNESS_ERROR, "it ended with status 1")


def test_of_a_lost_server_nothing_more_is_said(tmp_path: Path) -> None:
    write_segment(tmp_path, *REFUSED)
    assert failed(tmp_path, ErrorClass.SERVER_LOST) == (ErrorClass.SERVER_LOST, "it ended with status 1")
