"""What of an answer is thought, and what the harness gets of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slurmeval.gateway.thoughts import Thoughts, split

JSON = "application/json"
TAGS = ["<think>", "</think>"]


@pytest.mark.parametrize(
    ("text", "reason", "thoughts", "answer"),
    [
        ("<think>\nIs it 5? No.\n</think>\n\n4", "stop", "Is it 5? No.", "4"),
        ("Is it 5? No.\n</think>\n\n4", "stop", "Is it 5? No.", "4"),
        ("<think>a</think>b<think>c</think>d", "stop", "a</think>b<think>c", "d"),
        ("<think></think>4", "stop", "", "4"),
        ("4", "stop", None, "4"),
        ("", "length", None, ""),
        ("<think>It may", "length", "It may", ""),
        ("It may", "length", "It may", ""),
        ("<think>It may", "stop", "It may", ""),
        ("4 < 5 </thin", "stop", None, "4 < 5 </thin"),
    ],
)
def test_the_answer_follows_the_last_closing_tag(
    text: str, reason: str, thoughts: str | None, answer: str
) -> None:
    assert split(text, TAGS, reason) == (thoughts, answer)


def test_without_an_opening_tag_all_before_the_closing_one_is_thought() -> None:
    """The chat template opens it in the prompt."""
    assert split("It may", ["", "</think>"], "stop") == ("It may", "")
    assert split("5?</think>4", ["", "</think>"], "stop") == ("5?", "4")


def test_the_harness_gets_the_answer_alone() -> None:
    chat = {"choices": [{"message": {"content": "<think>5?</think>4"}, "finish_reason": "stop"}], "usage": 1}
    assert json.loads(Thoughts(TAGS).without(JSON, json.dumps(chat).encode())) == {
        "choices": [{"message": {"content": "4", "reasoning": "5?"}, "finish_reason": "stop"}],
        "usage": 1,
    }
    text = {"choices": [{"text": "5?</think>4", "finish_reason": "stop", "logprobs": None}]}
    assert json.loads(Thoughts(TAGS).without(JSON, json.dumps(text).encode()))["choices"][0]["text"] == "4"


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[1]",
        b'{"choices": 3}',
        b'{"choices": [3]}',
        b'{"choices": [{"message": {"content": null}}]}',
        b'{"choices": [{"text": "a</think>b", "logprobs": {"tokens": []}}]}',
        b'{ "choices":[{"message":{"content":"4"},"finish_reason":"stop"}]}',
    ],
)
def test_what_has_no_thoughts_stays_as_it_is_byte_by_byte(body: bytes) -> None:
    assert Thoughts(TAGS).without(JSON, body) == body


def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_stream_holds_text_back_until_it_is_known_what_was_thought(size: int) -> None:
    pieces = [{"role": "assistant", "content": ""}, {"content": "5?</th"}, {"content": "ink>\n\n4"}]
    body = b"".join([*map(chunk, pieces), chunk({}, "stop"), b"data: [DONE]\n\n"])
    stream = Thoughts(TAGS).stream()
    sent = b"".join(stream.feed(body[start : start + size]) for start in range(0, len(body), size))
    sent += stream.end()
    *events, done = [line[6:] for line in sent.split(b"\n\n") if line]
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
    assert done == b"[DONE]"
    assert "".join(delta.get("content", "") for delta in deltas) == "4"
    assert deltas[-1]["reasoning"] == "5?"
