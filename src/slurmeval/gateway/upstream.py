"""Asking the server: sending a request, sending it again where that is right, passing streams on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import orjson

from slurmeval.errors import ServerFailed
from slurmeval.gateway.answers import Facts, facts_of_body, facts_of_stream
from slurmeval.gateway.bodies import said
from slurmeval.gateway.circuit_breaker import CircuitBreaker
from slurmeval.gateway.connection import Connection, Connections, encode_request
from slurmeval.gateway.finder import LeasedServer, Refusal, ServerEndpoint
from slurmeval.gateway.probe import probe
from slurmeval.gateway.replicas import Replicas
from slurmeval.gateway.retry_policy import PROMPTS, RetryPolicy, is_later
from slurmeval.gateway.settings import GatewayConfig
from slurmeval.retrying import retry_after_s

JSON = "application/json"
Sink = Callable[[str, bytes], Awaitable[None]]
"""Takes a stream's content type and its next piece."""


@dataclass(slots=True)
class Call:
    """A request of the harness."""

    method: str
    path: str
    """With the query."""
    body: bytes
    content_type: str
    arrived: float
    """Monotonic clock, seconds."""
    model: str | None = None
    """Which model is asked; None: the request does not say."""
    audits: bool = False
    """It has been answered before: what becomes of it now does not count for the evaluation."""

    @property
    def counts(self) -> bool:
        """Returns whether the circuit breaker hears of what becomes of it."""
        return self.method == "POST" and not self.audits


@dataclass(slots=True)
class Answer:
    """What the harness gets, or has got where it is a stream."""

    status: int
    content_type: str
    body: bytes
    facts: Facts
    endpoint: ServerEndpoint | None = None
    error: str | None = None
    attempt: int = 0
    ttft_ms: float | None = None
    streamed: bool = False
    """Pieces have gone to the harness already; with `error` the stream is broken."""
    again: bool = False
    """It is to be asked again: the server's fault, or its wish."""
    refused: int | None = None
    """The status with which the server refused it for a reason that is not the prompt's."""
    retry_after_s: float | None = None
    """What the server asked for."""
    waited_ms: float | None = None
    """From the request's arrival until it was sent for the last time; None: it was not."""
    timed_out: bool = False
    heard_of: bool = False
    """`CircuitBreaker` knows of it."""

    @property
    def failed(self) -> bool:
        """The server's fault, as far as one can see."""
        return self.again or (self.streamed and self.error is not None)


class HarnessGone(Exception):
    """The harness hung up while its answer was streamed."""


def failure(status: int, kind: str, message: str) -> Answer:
    """An answer of the gateway's own, in the form of OpenAI's errors."""
    error = {"error": {"type": kind, "message": message, "code": status, "param": None}}
    return Answer(status, JSON, orjson.dumps(error), Facts(is_json=True), error=message)


def described(request_id: str, call: Call, key: bytes, started_at: float, answer: Answer) -> dict[str, Any]:
    """Returns what the log says of an exchange before its texts; docs/gateway.md has the meanings."""
    facts, endpoint = answer.facts, answer.endpoint
    latency_ms = round((time.monotonic() - call.arrived) * 1000, 3)
    return {
        "request_id": request_id,
        "key": key.hex(),
        "endpoint": call.path.partition("?")[0],
        "started_at": started_at,
        "latency_ms": latency_ms,
        "waited_ms": latency_ms if answer.waited_ms is None else round(answer.waited_ms, 3),
        "ttft_ms": None if answer.ttft_ms is None else round(answer.ttft_ms, 3),
        "http_status": answer.status,
        "attempt": answer.attempt,
        "server_id": None if endpoint is None else endpoint.server_id,
        "engine_run": None if endpoint is None else endpoint.engine_run,
        "prompt_tokens": facts.prompt_tokens,
        "completion_tokens": facts.completion_tokens,
        "finish_reason": facts.finish_reason,
        "error": answer.error or facts.withheld,
        "content_type": answer.content_type,
    }


class Upstream:
    """The servers as requests see them. An async context manager: it follows them while it is open."""

    def __init__(self, config: GatewayConfig) -> None:
        self._retries = config.retries
        self._timeout_s = config.request_timeout_s
        self._model = config.model
        self._connections = Connections()
        self.replicas = Replicas(config.leases, config.hold_s, self._probe)
        self.breaker = CircuitBreaker()

    async def __aenter__(self) -> Upstream:
        self._following = asyncio.create_task(self.replicas.follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._following.cancel()
        await asyncio.wait([self._following])
        self._connections.close()

    async def _probe(self, endpoint: ServerEndpoint) -> Refusal | None:
        return await probe(endpoint, self._model)

    async def ask(self, call: Call, sink: Sink) -> Answer:
        """The answer of whichever server or engine run gives it first. Raises HarnessGone."""
        answer = await self._ask(call, sink)
        if call.counts and not answer.timed_out and answer.endpoint is not None:
            if answer.failed and not answer.heard_of:
                self.breaker.failed(answer.error or "", answer.endpoint.server_id)
            elif not answer.failed:
                self.breaker.answered()
        return answer

    async def _ask(self, call: Call, sink: Sink) -> Answer:
        """Sends a request until a server has answered it.

        A try that failed because the server went away is made again for as long as it takes; one that failed
        at a server that answers others goes to each other replica, then all over again `retries` times.
        Raises HarnessGone.
        """
        attempt = 0
        failed_at: list[LeasedServer] = []
        policy = RetryPolicy(self._retries)
        while True:
            try:
                server = await self.replicas.take(failed_at)
            except ServerFailed as error:
                if not call.audits:
                    self.breaker.lost = str(error)
                answer = failure(503, "server_lost", str(error))
                answer.attempt = attempt
                return answer
            attempt += 1
            waited_ms = (time.monotonic() - call.arrived) * 1000
            server.in_flight += 1
            try:
                answer = await self._try(server, call, sink)
            finally:
                server.in_flight -= 1
            answer.endpoint, answer.attempt, answer.waited_ms = server.endpoint, attempt, waited_ms
            if not answer.timed_out:
                self.replicas.note(server, answer.failed)
            if not answer.again:
                return answer
            if not await self.replicas.still_answers(server):
                continue
            if answer.timed_out:
                return answer
            self._hear_of(answer, call)
            failed_at.append(server)
            if self.replicas.others(failed_at):
                continue
            pause_s = policy.pause(answer.refused or answer.status, answer.retry_after_s)
            if pause_s is None:
                return answer
            await asyncio.sleep(pause_s)
            failed_at.clear()

    def _hear_of(self, answer: Answer, call: Call) -> None:
        """A request that is refused, or put off, may wait long: the evaluation hears of each try.

        A server that puts some off while it works on others is busy, and not failing.
        """
        if not call.counts or answer.endpoint is None:
            return
        later = is_later(answer.refused or answer.status, answer.retry_after_s)
        if answer.refused is None and not later:
            return
        answer.heard_of = True
        if not (later and self.replicas.under_way):
            self.breaker.failed(answer.error or "", answer.endpoint.server_id)

    async def _try(self, server: LeasedServer, call: Call, sink: Sink) -> Answer:
        endpoint, pieces = server.endpoint, list[bytes]()
        connection = None
        try:
            async with asyncio.timeout(self._timeout_s) as timeout:
                connection = await self._connections.connect(endpoint.url)
                server.asked.add(connection)
                await connection.ask(
                    encode_request(
                        call.method, endpoint.url, call.path, endpoint.api_key, call.content_type, call.body
                    )
                )
                if connection.streams:
                    answer = await self._stream(call, connection, pieces, sink)
                else:
                    answer = _whole(call, connection)
            self._connections.give_back(endpoint.url, connection)
            return answer
        except OSError as error:  # TimeoutError is one
            if timeout.expired():
                answer = failure(504, "timeout", f"the server gave no answer within {self._timeout_s:g} s")
                answer.timed_out = True
            else:
                message = f"the connection to the server broke: {str(error) or type(error).__name__}"
                answer = failure(502, "connection_broken", message)
        except (asyncio.CancelledError, HarnessGone):
            if connection is not None:
                connection.close()
            raise
        finally:
            if connection is not None:
                server.asked.discard(connection)
        if connection is not None:
            connection.close()
        answer.streamed = bool(pieces)
        answer.again = not pieces
        return answer

    async def _stream(self, call: Call, connection: Connection, pieces: list[bytes], sink: Sink) -> Answer:
        """Passes a stream on; `pieces` collects it."""
        ttft_ms = None
        async for piece in connection.pieces():
            if not pieces:
                ttft_ms = (time.monotonic() - call.arrived) * 1000
                if (stranger := _wrong_model(call, facts_of_stream(call.path, piece))) is not None:
                    return stranger
            pieces.append(piece)
            try:
                await sink(connection.content_type, piece)
            except OSError as error:
                raise HarnessGone from error
        body = b"".join(pieces)
        facts = facts_of_stream(call.path, body)
        if pieces and (stranger := _wrong_model(call, facts)) is not None:
            stranger.streamed, stranger.again = True, False
            return stranger
        answer = Answer(200, connection.content_type, body, facts, error=facts.error, ttft_ms=ttft_ms)
        answer.streamed = bool(pieces)
        answer.again = not pieces
        return answer


def _wrong_model(call: Call, facts: Facts) -> Answer | None:
    """A failure in place of an answer that says of itself that another model gave it."""
    if facts.model is None or call.model is None or facts.model == call.model:
        return None
    message = f"the server answered for another model, {facts.model[:100]!r}, not {call.model[:100]!r}"
    answer = failure(502, "wrong_model", message)
    answer.again = True
    return answer


def _whole(call: Call, connection: Connection) -> Answer:
    status, content_type, body = connection.status, connection.content_type, connection.body()
    if status != 200:
        return _refused(call, connection, body)
    facts = facts_of_body(call.path, body, call.body)
    if facts.cut_off or facts.broken:
        answer = failure(502, "answer_cut_off" if facts.cut_off else "broken_answer", facts.error or "")
        answer.again = True
        return answer
    if (stranger := _wrong_model(call, facts)) is not None:
        return stranger
    return Answer(status, content_type, body, facts, error=facts.error)


def _refused(call: Call, connection: Connection, body: bytes) -> Answer:
    """What is not the prompt's fault is asked again.

    A harness takes a 4xx for an answer to its prompt, and may score it: where it is none, the harness
    gets 503.
    """
    status = connection.status
    error, facts = f"the server answered {status}: {said(body)}".removesuffix(": "), facts_of_body("", body)
    if status in PROMPTS:
        return Answer(status, connection.content_type, body, facts, error=error)
    if status >= 500 or call.method != "POST":
        answer = Answer(status, connection.content_type, body, facts, error=error)
    else:
        answer = failure(503, "refused", error)
        answer.refused = status
    answer.again = True
    answer.retry_after_s = retry_after_s(connection.retry_after)
    return answer
