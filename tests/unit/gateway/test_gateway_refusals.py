"""Answers that are none, and refusals that are not the prompt's fault: asked again, never stored."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from slurmeval.errors import ErrorClass
from slurmeval.gateway import circuit_breaker
from slurmeval.gateway.blank import blank_answer
from slurmeval.gateway.log import read
from slurmeval.gateway.process import GatewayProcess
from slurmeval.gateway.retry_policy import RetryPolicy
from tests.stand_ins.stand_in_server import StandIn

from .conftest import bearer, chat, post

Start = Callable[..., GatewayProcess]
BROKEN = {
    "no JSON": (
        "<html>Sign in</html>",
        "the server answered something that is no JSON: '<html>Sign in</html>'",
    ),
    "truncated": ('{"choices": [{"mess', "the server answered something that is no JSON: "),
    "no choices": ('{"choices": []}', "the server answered without choices: "),
    "a list": ("[1]", "the server answered with no JSON object: [1]"),
    "an error": ('{"error": {"message": "no room"}}', "the server answered with an error: no room"),
}


async def test_an_answer_is_json_whatever_a_proxy_calls_it(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start
) -> None:
    server.faults.fail_status, server.faults.fail_type = 200, "text/plain"
    server.faults.fail_body = ' {"choices": [{"message": {"content": "yes"}}]}'
    server.faults.fail_count = 1
    process = await asyncio.to_thread(gateway)
    for _ in range(2):  # the server's answer, and the same from the log
        headers = bearer(process)
        async with client.post(
            f"{process.url}/v1/chat/completions", json=chat("once"), headers=headers
        ) as reply:
            assert (await reply.json())["choices"][0]["message"]["content"] == "yes"
        await asyncio.to_thread(process.stop)
        process = await asyncio.to_thread(gateway)
    await asyncio.to_thread(process.stop)


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_answer_is_asked_again_and_never_stored(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path, kind: str
) -> None:
    server.faults.fail_status, (server.faults.fail_body, reason) = 200, BROKEN[kind]
    process = await asyncio.to_thread(gateway, retries=1)
    server.faults.fail_count = 1
    status, body = await post(client, process, chat("once"))
    assert (status, "choices" in json.loads(body)) == (200, True)
    server.faults.fail_count = 2
    status, body = await post(client, process, chat("for good"))
    error = json.loads(body)["error"]
    assert (status, error["type"]) == (502, "broken_answer")
    assert error["message"].startswith(reason)
    await asyncio.to_thread(process.stop)
    assert [(r.attempt, r.answered, r.http_status) for r in read(tmp_path / "log")] == [
        (2, True, 200),
        (2, False, 502),
    ]


@pytest.mark.parametrize("status", [401, 403, 404, 408, 425, 429, 302])
async def test_a_passing_refusal_costs_no_answer(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path, status: int
) -> None:
    server.faults.fail_count, server.faults.fail_status = 2, status
    process = await asyncio.to_thread(gateway)
    assert (await post(client, process, chat("a")))[0] == 200
    assert await asyncio.to_thread(process.failing) is None
    await asyncio.to_thread(process.stop)
    (record,) = read(tmp_path / "log")
    assert (record.attempt, record.http_status) == (3, 200)
    assert record.waited_ms is not None
    assert record.waited_ms >= 1500
    assert record.server_ms < 1500


async def test_a_refusal_for_good_is_the_servers_failure(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path
) -> None:
    server.faults.fail_count, server.faults.fail_status = 100, 403
    server.faults.fail_body = "<html>Forbidden</html>"
    process = await asyncio.to_thread(gateway, retries=1)
    status, body = await post(client, process, chat("a"))
    error = json.loads(body)["error"]
    assert (status, error["type"]) == (503, "refused")
    assert error["message"] == "the server answered 403: <html>Forbidden</html>"
    failing = await asyncio.to_thread(process.failing)
    assert failing is not None
    assert failing.error_class == ErrorClass.SERVER_LOST
    assert failing.reason.startswith("the server answers 403 to everything (2 in a row over ")
    await asyncio.to_thread(process.stop)
    assert failing.reason.endswith("): <html>Forbidden</html>")
    (record,) = read(tmp_path / "log")
    assert (record.http_status, record.error) == (503, "the server answered 403: <html>Forbidden</html>")
    assert not record.answered


@pytest.mark.parametrize("prompt", ["a b c", [1, 2, 3], [[1, 2, 3], [4, 5]]])
async def test_likelihoods_of_answers_are_not_taken_for_those_of_prompts(
    prompt: Any, server: StandIn, client: aiohttp.ClientSession, gateway: Start
) -> None:
    asked = {"model": "stand-in", "prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": 1}
    process = await asyncio.to_thread(gateway, retries=0)
    assert (await post(client, process, asked, "/v1/completions"))[0] == 200
    server.faults.no_likelihoods = True
    status, body = await post(client, process, asked, "/v1/completions")
    assert status == 502
    message = json.loads(body)["error"]["message"]
    assert message.startswith("the server answered without log-probabilities of the prompt: ")
    assert (await post(client, process, asked | {"echo": False}, "/v1/completions"))[0] == 200


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_is_honoured(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, form: str
) -> None:
    process = await asyncio.to_thread(gateway, retries=0)
    assert (await post(client, process, chat("warm")))[0] == 200
    then = datetime.now(UTC) + timedelta(seconds=3)
    server.faults.retry_after = "2" if form == "seconds" else format_datetime(then, usegmt=True)
    server.faults.fail_count, server.faults.fail_status = 1, 429
    began = time.monotonic()
    assert (await post(client, process, chat("a")))[0] == 200
    assert time.monotonic() - began >= 1.5


async def test_a_server_that_puts_off_everything_is_in_trouble_before_requests_give_up(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start
) -> None:
    server.faults.fail_count, server.faults.fail_status = 1000, 429
    process = await asyncio.to_thread(gateway, retries=0)
    asked = asyncio.create_task(post(client, process, chat("a")))
    async with asyncio.timeout(20):
        while (failing := await asyncio.to_thread(process.failing)) is None or "3 in a row" not in str(
            failing
        ):
            await asyncio.sleep(0.1)
    assert "the server answers 429 to everything" in failing.reason
    assert not asked.done()
    asked.cancel()


async def test_a_server_that_puts_some_off_while_it_works_is_not_in_trouble(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start
) -> None:
    process = await asyncio.to_thread(gateway)
    server.release.clear()
    first = asyncio.create_task(post(client, process, chat("long")))
    async with asyncio.timeout(20):
        while server.in_flight == 0:
            await asyncio.sleep(0.01)
    server.faults.fail_count, server.faults.fail_status = 3, 429
    second = asyncio.create_task(post(client, process, chat("put off")))
    async with asyncio.timeout(20):
        while server.faults.fail_count:
            assert await asyncio.to_thread(process.failing) is None
            await asyncio.sleep(0.1)
    server.release.set()
    assert [(await first)[0], (await second)[0]] == [200, 200]


def test_pauses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("slurmeval.gateway.retry_policy.time.monotonic", lambda: now[0])
    policy = RetryPolicy(retries=2)
    assert [policy.pause(403, None) for _ in range(3)] == [0.5, 1.0, None]
    policy = RetryPolicy(retries=0)
    assert policy.pause(429, 100_000.0) == 300.0
    assert [policy.pause(429, None) for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    now[0] += 3600
    assert policy.pause(429, None) is None


def test_a_refusal_counts_as_any_failure() -> None:
    state = circuit_breaker.CircuitBreaker()
    state.failed("the server answered 429", "m/0001")
    assert state.reason() == "the server answers 429 (1 in a row over 0 s, the last at m/0001)"


async def test_a_harness_that_one_refusal_ends_gets_an_empty_answer_that_counts_as_none(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path
) -> None:
    for _ in range(2):
        server.faults.fail_count, server.faults.fail_status = 2, 400
        process = await asyncio.to_thread(gateway, blank_refused=True)
        status, body = await post(client, process, chat("a"))
        assert status == 200
        assert json.loads(body)["choices"][0]["message"]["content"] == ""
        likelihood = {"model": "stand-in", "prompt": "a b", "echo": True, "logprobs": 1, "max_tokens": 1}
        status, body = await post(client, process, likelihood, "/v1/completions")
        assert (status, body.decode()) == (400, server.faults.fail_body)
        await asyncio.to_thread(process.stop)
    assert [(r.http_status, r.answered) for r in read(tmp_path / "log")] == [(400, False)] * 4


def test_an_empty_answer_has_as_many_choices_as_were_asked_for() -> None:
    def choices(path: str, **asked: object) -> int | None:
        body = blank_answer(path, asked)
        return None if body is None else len(json.loads(body)["choices"])

    assert choices("/v1/chat/completions", messages=[], n=3) == 3
    assert choices("/v1/completions", prompt=["a", "b"]) == 2
    assert choices("/v1/completions", prompt=[1, 2, 3]) == 1
    assert choices("/v1/completions", prompt=[[1, 2], [3]], n=2) == 4
    assert choices("/v1/embeddings", input="a") is None
    assert choices("/v1/completions", prompt="a", stream=True) is None
