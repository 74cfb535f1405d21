"""What the gateway changes in requests, so that vLLM does what the harness means."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from slurmeval.gateway.amending import CHAT, Amendments
from slurmeval.gateway.log import read
from slurmeval.gateway.process import GatewayProcess
from tests.stand_ins.stand_in_server import StandIn

from .conftest import chat, post

QUESTION = {"role": "user", "content": "Which?"}
BEGUN = {"role": "assistant", "content": "The best answer is"}
CONTINUED = {"add_generation_prompt": False, "continue_final_message": True}


def test_a_chat_that_ends_with_words_of_the_assistants_is_gone_on_with() -> None:
    assert Amendments().of(CHAT, {"messages": [QUESTION, BEGUN]}) == CONTINUED


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": [QUESTION]}),
        (CHAT, {"messages": [QUESTION, BEGUN, QUESTION]}),
        (CHAT, {"messages": [QUESTION, BEGUN], "continue_final_message": False}),
        (CHAT, {"messages": [QUESTION, BEGUN], "add_generation_prompt": True}),
        (CHAT, {"messages": [QUESTION, {"role": "assistant", "content": None, "tool_calls": [{}]}]}),
        (CHAT, {"messages": []}),
        (CHAT, {"messages": ["?"]}),
        ("/v1/completions", {"prompt": "x", "messages": [BEGUN]}),
    ],
)
def test_any_other_request_is_sent_as_it_came(path: str, body: dict[str, Any]) -> None:
    assert Amendments().of(path, body) == {}


@pytest.mark.parametrize(
    ("temperature", "sent"),
    [
        (1e-7, {"temperature": 0}),
        (0.001, {"temperature": 0}),
        (0, {}),
        (0.0, {}),
        (0.01, {}),
        (0.6, {}),
        (None, {}),
    ],
)
def test_a_temperature_as_good_as_0_is_0(temperature: float | None, sent: dict[str, Any]) -> None:
    """vLLM lifts temperatures between 0 and 0.01 to 0.01, and draws."""
    body = {"prompt": "x"} | ({} if temperature is None else {"temperature": temperature})
    assert Amendments().of("/v1/completions", body) == sent


@pytest.mark.parametrize(
    ("limits", "sent"),
    [
        ({"max_tokens": 256, "max_new_tokens": 32}, {"max_tokens": 32}),
        ({"max_tokens": 256, "max_new_tokens": 1024}, {"max_tokens": 1024}),
        ({"max_new_tokens": 32}, {"max_tokens": 32}),
        ({"max_tokens": 64, "max_new_tokens": 32}, {}),
        ({"max_tokens": 256}, {}),
        ({"max_tokens": 256, "max_new_tokens": "many"}, {}),
    ],
)
def test_a_limit_by_the_name_that_vllm_does_not_know_is_the_answers_limit(
    limits: dict[str, Any], sent: dict[str, Any]
) -> None:
    """lm-eval's clients of servers read `max_gen_toks` alone, its own models this name, too."""
    assert Amendments().of("/v1/completions", {"prompt": "x"} | limits) == sent


def test_repeats_of_a_question_that_is_sampled_have_seeds_of_their_own() -> None:
    amendments = Amendments()
    sampled = {"prompt": "x", "temperature": 0.8, "seed": 1234}
    seeds = [amendments.of("/v1/completions", dict(sampled)).get("seed") for _ in range(3)]
    assert seeds == [None, 1235, 1236]
    assert amendments.of("/v1/completions", sampled | {"prompt": "y"}) == {}
    greedy = sampled | {"temperature": 0}
    assert [amendments.of("/v1/completions", dict(greedy)) for _ in range(2)] == [{}, {}]
    assert [amendments.of("/v1/completions", {"prompt": "x", "temperature": 1}) for _ in range(2)] == [{}, {}]


async def test_a_resumed_run_gets_each_repeats_own_answer_back(
    server: StandIn, client: aiohttp.ClientSession, gateway: Callable[..., GatewayProcess], tmp_path: Path
) -> None:
    asked = chat("again", temperature=0.7, seed=1234)
    first = await asyncio.to_thread(gateway)
    answers = [(await post(client, first, asked))[1] for _ in range(3)]
    await asyncio.to_thread(first.stop)
    second = await asyncio.to_thread(gateway)
    assert [(await post(client, second, asked))[1] for _ in range(4)][:3] == answers
    assert [json.loads(seen["body"])["seed"] for seen in server.seen] == [1234, 1235, 1236, 1237]
    await asyncio.to_thread(second.stop)
    records = list(read(tmp_path / "log"))
    assert [record.request["seed"] for record in records] == [1234, 1235, 1236, 1237]
    assert len({record.key for record in records}) == 4
