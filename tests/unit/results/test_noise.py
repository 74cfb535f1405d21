"""What is counted of requests that were asked once more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slurmeval.gateway.log import Record
from slurmeval.results.noise import Noise


def record(name: str, response: dict[str, Any], status: int = 200) -> Record:
    body = json.dumps(response).encode()
    return Record(
        *(name, "key", "/v1/completions", 0.0, 1.0, None, status, 1, "m/0001", 1, 1, 1, "stop", None),
        content_type="application/json",
        request_body=b"{}",
        response_body=body,
    )


def text(said: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": said, "finish_reason": "stop"}]}


def likelihoods(*values: float | None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": "echo", "logprobs": {"token_logprobs": list(values)}}]}


@pytest.mark.parametrize(
    ("first", "second", "differ"),
    [
        (text("4"), text("4"), 0),
        (text("4"), text("5"), 1),
        (likelihoods(None, -1.0, -2.0), likelihoods(None, -1.001, -2.0), 0),
        (likelihoods(None, -1.0, -2.0), likelihoods(None, -1.2, -2.0), 1),
        (likelihoods(None, -1.0), likelihoods(None, -1.0, -1.0), 1),
        ({"choices": "none"}, {"data": []}, 0),
    ],
)
def test_second_answers_are_held_against_the_first(
    first: dict[str, Any], second: dict[str, Any], differ: int
) -> None:
    noise = Noise([record("0001-000001", second)])
    for name in ("0001-000001", "0001-000002"):
        noise.seen(record(name, first))
    assert noise.columns() == {"n_audited": 1, "n_audit_differ": differ}


def test_an_answer_that_is_none_is_not_compared() -> None:
    noise = Noise([record("0001-000001", text("4"), status=500)])
    noise.seen(record("0001-000001", text("4")))
    assert noise.columns() == {"n_audited": 0, "n_audit_differ": None}
