"""Requests that are passed on to a server that slurmeval did not start."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from slurmeval.engines.external import KEY_VARIABLE, External
from slurmeval.engines.failures import classify
from slurmeval.engines.forwarder import Forwarder, serve
from slurmeval.errors import SlurmevalError
from slurmeval.state.external import ExternalServer, SpendingLimit, Spent
from slurmeval.state.records import load, write

OWN = {"Authorization": "Bearer own"}
EVENTS = [
    {"model": "theirs-2026", "choices": [{"delta": {"content": "né"}}]},
    {"model": "theirs-2026", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
]


class Theirs:
    """A server that someone else keeps, and what it was asked."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answer: dict[str, Any] = {
            "model": "theirs-2026",
            "choices": [{"message": {"content": "yes"}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        }
        self.status = 200
        self.headers: dict[str, str] = {}
        self.breaks = False
        """A stream ends after its first event, with the connection."""
        self.silent = 0
        """So many requests are not answered."""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/api/v1/chat/completions", self._chat)
        return app

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("Authorization"))
        if len(self.bodies) <= self.silent:
            await asyncio.Event().wait()
        if not self.bodies[-1].get("stream"):
            return web.json_response(self.answer, status=self.status, headers=self.headers)
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        await response.prepare(request)
        for event in EVENTS:
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
            if self.breaks and request.transport is not None:
                request.transport.close()
                return response
        await response.write(b"data: [DONE]\n\n")
        return response


@pytest.fixture
async def theirs() -> AsyncIterator[tuple[Theirs, str]]:
    made = Theirs()
    async with TestServer(made.app()) as server:
        yield made, str(server.make_url("/api/v1"))


def server_at(url: str, root: Path, **more: Any) -> ExternalServer:
    (root / "key").write_text("the-real-key")
    given: dict[str, Any] = {"key_file": str(root / "key"), "max_in_flight": 4, **more}
    return ExternalServer(url=url, model="theirs", spent_file=str(root / "spent.json"), **given)


async def test_a_request_goes_on_with_their_key_their_name_and_the_configs_defaults(
    theirs: tuple[Theirs, str], tmp_path: Path
) -> None:
    them, url = theirs
    forwarder = Forwarder(
        server_at(url, tmp_path, generation={"top_p": 0.5, "temperature": 1}), "ours", "own"
    )
    async with TestClient(TestServer(forwarder.app())) as client:
        body = {"model": "ours", "messages": [], "temperature": 0}
        answer = await client.post("/v1/chat/completions", json=body, headers=OWN)
        assert (await answer.json())["model"] == "ours"
    assert them.bodies == [{"model": "theirs", "messages": [], "temperature": 0, "top_p": 0.5}]
    assert them.keys == ["Bearer the-real-key"]
    assert load(tmp_path / "spent.json", Spent) == Spent(1, 10, 5)


async def test_parameters_go_on_by_the_servers_own_names(theirs: tuple[Theirs, str], tmp_path: Path) -> None:
    them, url = theirs
    own_names = {"max_tokens": "max_completion_tokens", "seed": None, "stop": None, "top_p": None}
    server = server_at(url, tmp_path, generation={"top_p": 0.5}, parameters=own_names)
    async with TestClient(TestServer(Forwarder(server, "ours", "own").app())) as client:
        body = {"messages": [], "max_tokens": 9, "seed": 1, "temperature": 0}
        await client.post("/v1/chat/completions", json=body, headers=OWN)
    assert them.bodies == [
        {"messages": [], "max_completion_tokens": 9, "temperature": 0, "model": "theirs"},
    ]


async def test_who_lacks_its_key_gets_nothing(theirs: tuple[Theirs, str], tmp_path: Path) -> None:
    them, url = theirs
    async with TestClient(TestServer(Forwarder(server_at(url, tmp_path), "ours", "own").app())) as client:
        for path in ("/v1/models", "/metrics", "/ready"):
            assert (await client.get(path)).status == 401
        answer = await client.post("/v1/chat/completions", json={}, headers={"Authorization": "Bearer né"})
        assert answer.status == 401
    assert them.bodies == []


async def test_a_stream_is_passed_on_event_by_event_and_its_tokens_count(
    theirs: tuple[Theirs, str], tmp_path: Path
) -> None:
    _, url = theirs
    forwarder = Forwarder(server_at(url, tmp_path), "ours", "own")
    async with TestClient(TestServer(forwarder.app())) as client:
        answer = await client.post("/v1/chat/completions", json={"stream": True}, headers=OWN)
        assert answer.content_type == "text/event-stream"
        events = [line[6:] for line in (await answer.read()).split(b"\n") if line.startswith(b"data: ")]
    assert events[-1] == b"[DONE]"
    wanted = [event | {"model": "ours"} for event in EVENTS]
    assert [json.loads(event) for event in events[:-1]] == wanted
    assert load(tmp_path / "spent.json", Spent) == Spent(1, 3, 1)


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (429, {"Retry-After": "7"}, "7.000"),
        (429, {"Retry-After-Ms": "250"}, "0.250"),
        (429, {"x-ratelimit-reset-tokens": "1m1s", "x-ratelimit-remaining-tokens": "0"}, "61.000"),
        (429, {}, "0.000"),
        (503, {}, "0.000"),
        (529, {}, "0.000"),
        (500, {"x-ratelimit-reset-tokens": "1m1s", "x-ratelimit-remaining-tokens": "0"}, None),
        (500, {"Retry-After": "2"}, "2.000"),
        (400, {}, None),
    ],
)
async def test_a_refusal_comes_back_with_the_wait_that_the_gateway_reads(
    status: int, headers: dict[str, str], wait: str | None, theirs: tuple[Theirs, str], tmp_path: Path
) -> None:
    them, url = theirs
    them.status, them.headers, them.answer = status, headers, {"error": {"message": "slowly"}}
    async with TestClient(TestServer(Forwarder(server_at(url, tmp_path), "ours", "own").app())) as client:
        answer = await client.post("/v1/chat/completions", json={}, headers=OWN)
        assert (answer.status, answer.headers.get("Retry-After")) == (status, wait)
        assert await answer.json() == {"error": {"message": "slowly"}}


async def test_a_chat_without_an_answer_says_an_empty_one(theirs: tuple[Theirs, str], tmp_path: Path) -> None:
    them, url = theirs
    messages: list[Any] = [{"content": None}, {}, {"content": None, "tool_calls": [{"id": "1"}]}, None]
    them.answer = {"choices": [*({"message": message} for message in messages), "?"]}
    async with TestClient(TestServer(Forwarder(server_at(url, tmp_path), "ours", "own").app())) as client:
        answer = await client.post("/v1/chat/completions", json={}, headers=OWN)
        *choices, _ = (await answer.json())["choices"]
    assert [choice["message"] for choice in choices] == [{"content": ""}, {"content": ""}, *messages[2:]]


async def test_an_answer_in_parts_is_a_text_and_its_thoughts(
    theirs: tuple[Theirs, str], tmp_path: Path
) -> None:
    them, url = theirs
    thinking = {
        "type": "thinking",
        "thinking": [{"type": "text", "text": "2 + "}, {"type": "text", "text": "2"}],
    }
    parts = [thinking, {"type": "text", "text": "4"}, {"type": "text", "text": None}, "?"]
    them.answer = {"choices": [{"message": {"content": parts}}, {"message": {"content": parts[1:2]}}]}
    async with TestClient(TestServer(Forwarder(server_at(url, tmp_path), "ours", "own").app())) as client:
        answer = await client.post("/v1/chat/completions", json={}, headers=OWN)
        messages = [choice["message"] for choice in (await answer.json())["choices"]]
    assert messages == [{"content": "4", "reasoning": "2 + 2"}, {"content": "4"}]


async def test_a_stream_that_breaks_off_is_not_ended(theirs: tuple[Theirs, str], tmp_path: Path) -> None:
    them, url = theirs
    them.breaks = True
    async with TestClient(TestServer(Forwarder(server_at(url, tmp_path), "ours", "own").app())) as client:
        answer = await client.post("/v1/chat/completions", json={"stream": True}, headers=OWN)
        assert await answer.content.readline() != b""
        with pytest.raises(aiohttp.ClientError, match=r"not completed|not all data|TransferEncodingError"):
            await answer.read()


async def test_no_stop_words_are_left_out(theirs: tuple[Theirs, str], tmp_path: Path) -> None:
    them, url = theirs
    async with TestClient(TestServer(Forwarder(server_at(url, tmp_path), "ours", "own").app())) as client:
        for stop in ([], ["a"]):
            await client.post("/v1/chat/completions", json={"stop": stop}, headers=OWN)
    assert them.bodies == [{"model": "theirs"}, {"stop": ["a"], "model": "theirs"}]


async def test_who_hangs_up_frees_the_place_of_its_request(
    theirs: tuple[Theirs, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    them, url = theirs
    them.silent = 1
    monkeypatch.setenv(KEY_VARIABLE, "own")
    serving = asyncio.create_task(
        serve(server_at(url, tmp_path, max_in_flight=1), "ours", "127.0.0.1", unused_tcp_port)
    )
    ours = f"http://127.0.0.1:{unused_tcp_port}/v1/chat/completions"
    async with aiohttp.ClientSession(headers=OWN) as client:
        while not them.bodies:
            assert not serving.done()
            with contextlib.suppress(aiohttp.ClientConnectionError, TimeoutError):
                await client.post(ours, json={}, timeout=aiohttp.ClientTimeout(total=0.5))
        async with client.post(ours, json={}, timeout=aiohttp.ClientTimeout(total=20)) as answer:
            assert answer.status == 200
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def test_an_answer_asks_for_no_wait(theirs: tuple[Theirs, str], tmp_path: Path) -> None:
    them, url = theirs
    them.headers = {"x-ratelimit-reset-requests": "1s", "Retry-After": "1"}
    async with TestClient(TestServer(Forwarder(server_at(url, tmp_path), "ours", "own").app())) as client:
        answer = await client.post("/v1/chat/completions", json={}, headers=OWN)
        assert (answer.status, answer.headers.get("Retry-After")) == (200, None)


@pytest.mark.parametrize("body", [b"[1]", b"{", b"", b'"text"'])
async def test_what_is_no_request_is_not_passed_on(
    body: bytes, theirs: tuple[Theirs, str], tmp_path: Path
) -> None:
    them, url = theirs
    async with TestClient(TestServer(Forwarder(server_at(url, tmp_path), "ours", "own").app())) as client:
        assert (await client.post("/v1/chat/completions", data=body, headers=OWN)).status == 400
    assert them.bodies == []


async def test_a_server_that_is_away_is_told_as_such(tmp_path: Path) -> None:
    forwarder = Forwarder(server_at("http://127.0.0.1:9/v1", tmp_path), "ours", "own")
    async with TestClient(TestServer(forwarder.app())) as client:
        for answer in (
            await client.post("/v1/chat/completions", json={}, headers=OWN),
            await client.get("/ready", headers=OWN),
        ):
            assert answer.status == 502
            assert "the server cannot be reached" in await answer.text()


async def test_a_server_without_a_list_of_models_will_do(theirs: tuple[Theirs, str], tmp_path: Path) -> None:
    _, url = theirs
    async with TestClient(TestServer(Forwarder(server_at(url, tmp_path), "ours", "own").app())) as client:
        assert (await client.get("/ready", headers=OWN)).status == 200


async def test_its_figures_are_those_since_it_started(theirs: tuple[Theirs, str], tmp_path: Path) -> None:
    _, url = theirs
    write(tmp_path / "spent.json", Spent(100, 1000, 500))
    async with TestClient(TestServer(Forwarder(server_at(url, tmp_path), "ours", "own").app())) as client:
        await client.post("/v1/chat/completions", json={}, headers=OWN)
        figures = External().figures(await (await client.get("/metrics", headers=OWN)).text())
    assert (figures.requests, figures.prompt_tokens, figures.generated_tokens) == (1, 10, 5)
    assert figures.requests_running == 0


@pytest.mark.parametrize("budget", [SpendingLimit(requests=101), SpendingLimit(tokens=1501)])
async def test_a_budget_counts_what_earlier_runs_spent(
    budget: SpendingLimit, theirs: tuple[Theirs, str], tmp_path: Path
) -> None:
    them, url = theirs
    write(tmp_path / "spent.json", Spent(100, 1000, 500))
    forwarder = Forwarder(server_at(url, tmp_path, budget=budget), "ours", "own")
    forwarder.refuse_if_spent()
    async with TestClient(TestServer(forwarder.app())) as client:
        await client.post("/v1/chat/completions", json={}, headers=OWN)
        assert forwarder.is_spent.is_set()
        with pytest.raises(TimeoutError):  # it is not answered: the process is to end
            await client.post(
                "/v1/chat/completions", json={}, headers=OWN, timeout=aiohttp.ClientTimeout(total=0.2)
            )
    assert len(them.bodies) == 1
    with pytest.raises(SlurmevalError, match=r"the budget of .* is spent"):
        Forwarder(server_at(url, tmp_path, budget=budget), "ours", "own").refuse_if_spent()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (402, {"message": "no money"}),
        (429, {"message": "no money", "code": "insufficient_quota"}),
        (429, {"message": "no money", "type": "insufficient_quota", "code": "credit_balance_exhausted"}),
    ],
)
async def test_a_server_that_wants_to_be_paid_is_not_asked_again(
    status: int, error: dict[str, str], theirs: tuple[Theirs, str], tmp_path: Path
) -> None:
    them, url = theirs
    them.status, them.answer = status, {"error": error}
    forwarder = Forwarder(server_at(url, tmp_path), "ours", "own")
    async with TestClient(TestServer(forwarder.app())) as client:
        assert (await client.post("/v1/chat/completions", json={}, headers=OWN)).status == status
    assert forwarder.is_spent.is_set()
    with pytest.raises(SlurmevalError, match=r"^the server answers no more for want of credit \(no money\)$"):
        forwarder.refuse_if_spent()


@pytest.mark.parametrize("status", [429, 403, 500, 200])
async def test_any_other_server_is_asked_again(
    status: int, theirs: tuple[Theirs, str], tmp_path: Path
) -> None:
    them, url = theirs
    them.status, them.answer = status, {"error": {"message": "slowly", "code": ["rate_limit_exceeded"]}}
    forwarder = Forwarder(server_at(url, tmp_path), "ours", "own")
    async with TestClient(TestServer(forwarder.app())) as client:
        await client.post("/v1/chat/completions", json={}, headers=OWN)
    forwarder.refuse_if_spent()


async def test_a_budget_of_tokens_wants_to_be_told_of_them(
    theirs: tuple[Theirs, str], tmp_path: Path
) -> None:
    them, url = theirs
    del them.answer["usage"]
    forwarder = Forwarder(server_at(url, tmp_path, budget=SpendingLimit(tokens=100)), "ours", "own")
    async with TestClient(TestServer(forwarder.app())) as client:
        assert (await client.post("/v1/chat/completions", json={}, headers=OWN)).status == 200
    with pytest.raises(SlurmevalError, match="does not say how many tokens an answer takes"):
        forwarder.refuse_if_spent()


def test_the_servers_words_are_the_reason_of_its_end() -> None:
    engine = External()
    log = "E: the server answers no more for want of credit (no money)\n"
    found = classify(log, 1, engine=engine.name, known_failures=engine.known_failures)
    assert (found.reason, found.final) == (log[3:].strip(), True)


def test_a_spent_budget_is_the_reason_of_the_servers_end() -> None:
    engine = External()
    log = (Path(__file__).parent / "external" / "budget.log").read_text()
    found = classify(log, 1, engine=engine.name, known_failures=engine.known_failures)
    words = "the budget of 1,000 tokens is spent (1,012 were used): raise servers.<id>.budget, or leave it"
    assert (found.reason, found.final) == (words, True)
