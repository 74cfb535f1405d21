"""What of an answer is thought, and what the harness gets of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slurmeval.gateway.thoughts import Thoughts, split, stops_of

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


def test_a_stop_word_ends_the_answer_and_not_the_thoughts() -> None:
    chat = {
        "choices": [{"message": {"content": "<think>a\n\nb</think>4\n\nQ: 5"}, "finish_reason": "length"}]
    }
    body = json.dumps(chat).encode()
    for thoughts, said in ((TAGS, {"content": "4", "reasoning": "a\n\nb"}), (None, {"content": "<think>a"})):
        (choice,) = json.loads(Thoughts(thoughts).without(JSON, body, ["Q:", "\n\n"]))["choices"]
        assert choice == {"message": said, "finish_reason": "stop"}
    assert Thoughts(None).without(JSON, body) == body


@pytest.mark.parametrize(
    ("tags", "path", "moved"),
    [
        (TAGS, "/v1/chat/completions", True),
        (TAGS, "/v1/completions", True),
        (None, "/v1/chat/completions", True),
        (None, "/v1/completions", False),
    ],
)
def test_stop_words_are_not_asked_of_a_server_that_would_find_them_in_thoughts(
    tags: list[str] | None, path: str, moved: bool
) -> None:
    for stop in ("\n\n", ["\n\n"]):
        body = {"prompt": "2 + 2?", "stop": stop}
        assert Thoughts(tags).spare(path, body) is moved
        assert ("stop" not in body) is moved
        assert stops_of(body) == (["\n\n"] if moved else [])
    for nothing in ({}, {"stop": None}, {"stop": []}, {"stop": ""}, {"stop": [""]}):
        assert not Thoughts(tags).spare(path, dict(nothing))


def test_an_answer_with_a_lone_surrogate_has_its_thoughts_taken_out() -> None:
    body = b'{"choices": [{"text": "5?</think>\\ud835", "finish_reason": "stop"}]}'
    assert json.loads(Thoughts(TAGS).without(JSON, body))["choices"][0]["text"] == "\ud835"


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
