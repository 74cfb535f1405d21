"""Requests find their samples by text, and are never another sample's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slurmeval.gateway.log import Record
from slurmeval.harnesses.base import Sample
from slurmeval.results.joining import Join
from tests.report.example import record


def _sample(text: str, **more: Any) -> Sample:
    return Sample("0", "t", text, "a", **more)


def _asking(index: int = 0, **body: Any) -> Record:
    return record(index, "", "", request_body=json.dumps(body).encode())


def test_a_chat_is_known_by_its_last_message() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " What is 2+2? "}]
    assert Join([_sample("Who?"), _sample("What is 2+2?")]).assign(_asking(messages=messages)) == 1


def test_a_chat_is_known_by_the_whole_conversation() -> None:
    messages = [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}]
    messages.append({"role": "user", "content": "Q2"})
    join = Join([_sample("user: Q1\n\nassistant: A1\n\nuser: Q2"), _sample("Q1")])
    assert join.assign(_asking(messages=messages)) == 0


def test_content_in_parts_is_joined() -> None:
    content = [{"type": "text", "text": "What "}, {"type": "text", "text": "is it?"}]
    join = Join([_sample("What is it?")])
    assert join.assign(_asking(messages=[{"role": "user", "content": content}])) == 0


def test_the_choices_of_a_question_add_up() -> None:
    join = Join([_sample("Sky is", choices=["blue", "red"]), _sample("Grass is", choices=["green", "blue"])])
    prompts = ["Sky is red", "Grass is blue", "Sky is blue", "Grass is green"]
    assert [join.assign(_asking(i, prompt=prompt)) for i, prompt in enumerate(prompts)] == [0, 1, 0, 1]
    cost = join.costs[0]
    assert (cost.n_requests, cost.prompt_tokens, cost.latency_ms) == (2, 20 + 22, 100 + 102)


def test_a_prompt_of_token_numbers_is_known_by_its_echo() -> None:
    """As vLLM answers: the echoed prompt, then the one token that was generated."""
    tokens = ["Sky", " is", " red", "\n"]
    choice = {"text": "Sky is red\n", "logprobs": {"tokens": tokens}}
    answer = {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    body = {"prompt": [[5, 6, 7]], "echo": True, "max_tokens": 1, "logprobs": 1}
    join = Join([_sample("Sky is", choices=["blue", "red"])])
    asked = json.dumps(body).encode()
    assert join.assign(record(0, "", "", request_body=asked, response_body=json.dumps(answer).encode())) == 0
    assert join.assign(record(1, "", "", request_body=asked, response_body=b'{"choices": []}')) is None


def test_the_kth_equal_question_gets_the_kth_request() -> None:
    join = Join([_sample("Q", repeat_idx=0), _sample("Q", repeat_idx=1)])
    assert [join.assign(_asking(i, prompt=["Q"])) for i in range(3)] == [0, 1, None]


def test_a_harness_may_name_the_requests_or_the_prompt() -> None:
    join = Join(
        [_sample("Q", metadata={"request_ids": ["r00007"]}), _sample("Q", metadata={"prompt": "Ask: Q"})]
    )
    assert join.assign(_asking(7, prompt="whatever")) == 0
    assert join.assign(_asking(8, prompt="Ask: Q")) == 1
    assert join.assign(_asking(9, prompt="Q")) is None


def test_a_harness_may_say_what_it_sent() -> None:
    """As of contexts that are choices: all have their requests, and the question alone has none."""
    prompts = ["Ann was late", "Mary was late"]
    join = Join([_sample("_ was late", choices=["Ann", "Mary"], prompts=prompts)])
    assert [join.assign(_asking(i, prompt=prompt)) for i, prompt in enumerate(prompts)] == [0, 0]
    assert join.assign(_asking(2, prompt="_ was late")) is None
    assert join.costs[0].n_requests == 2


@pytest.mark.parametrize(
    "body",
    [b"[1, 2]", b"no json", b'{"prompt": [1, 2]}', b'{"prompt": ["Q", "Q"]}', b'{"messages": []}', b"{}"],
)
def test_a_request_of_another_form_is_nobodys(body: bytes) -> None:
    assert Join([_sample("Q")]).assign(record(0, "", "", request_body=body)) is None


def test_a_request_without_an_answer_takes_no_samples_place() -> None:
    join = Join([_sample("Q")])
    lost = record(0, "Q", "", http_status=503, error="server lost", response_body=None)
    assert join.assign(lost) is None
    assert join.assign(_asking(prompt="Q")) == 0
    assert join.costs[0].n_requests == 1


def test_unknown_tokens_stay_unknown() -> None:
    join = Join([_sample("Q")])
    join.assign(record(0, "Q", "", prompt_tokens=None, completion_tokens=None, latency_ms=5.0))
    assert (join.costs[0].prompt_tokens, join.costs[0].latency_ms) == (None, 5.0)
