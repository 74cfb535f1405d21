"""Asking the server: sending a request, sending it again where that is right, passing streams on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType

import orjson

from slurmeval.errors import ServerFailed
from slurmeval.gateway.answers import Facts, facts_of_body, facts_of_stream
from slurmeval.gateway.connection import Connection, Connections, encode_request
from slurmeval.gateway.finder import Endpoint, Finder
from slurmeval.gateway.settings import GatewayConfig

AGAIN = frozenset({500, 502, 503, 504})
"""Statuses after which a request is sent again."""

PROBE_TIMEOUT_S = 5.0

PAUSE_S = 0.5
"""Before a request is sent to the same server again; doubles each time, up to PAUSE_MAX_S."""
PAUSE_MAX_S = 10.0

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


@dataclass(slots=True)
class Answer:
    """What the harness gets, or has got where it is a stream."""

    status: int
    content_type: str
    body: bytes
    facts: Facts
    endpoint: Endpoint | None = None
    error: str | None = None
    attempt: int = 0
    ttft_ms: float | None = None
    streamed: bool = False
    """Pieces have gone to the harness already; with `error` the stream is broken."""
    again: bool = False
    timed_out: bool = False


class HarnessGone(Exception):
    """The harness hung up while its answer was streamed."""


def failure(status: int, kind: str, message: str) -> Answer:
    """An answer of the gateway's own, in the form of OpenAI's errors."""
    error = {"error": {"type": kind, "message": message, "code": status, "param": None}}
    return Answer(status, JSON, orjson.dumps(error), Facts(is_json=True), error=message)


class Upstream:
    """The server as requests see it. An async context manager: it follows the server while it is open."""

    def __init__(self, config: GatewayConfig) -> None:
        self._retries = config.retries
        self._timeout_s = config.request_timeout_s
        self._connections = Connections()
        self.finder = Finder(config.lease, config.hold_s, self._is_healthy)

    async def __aenter__(self) -> Upstream:
        self._following = asyncio.create_task(self.finder.follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._following.cancel()
        await asyncio.wait([self._following])
        self._connections.close()

    async def ask(self, call: Call, sink: Sink) -> Answer:
        """The server's answer, from whichever server or life gives it first. A try that failed because the
        server went away is made again for as long as it takes; one that failed at a server that answers
        others is made again `retries` times. Raises HarnessGone."""
        attempt = retried = 0
        while True:
            try:
                endpoint = await self.finder.endpoint()
            except ServerFailed as error:
                answer = failure(503, "server_lost", str(error))
                answer.attempt = attempt
                return answer
            attempt += 1
            answer = await self._try(endpoint, call, sink)
            answer.endpoint, answer.attempt = endpoint, attempt
            if not answer.again or not await self.finder.still_answers(endpoint):
                if answer.again:
                    continue
                return answer
            if answer.timed_out or retried >= self._retries:
                return answer
            await asyncio.sleep(min(PAUSE_S * 2**retried, PAUSE_MAX_S))
            retried += 1

    async def _try(self, endpoint: Endpoint, call: Call, sink: Sink) -> Answer:
        pieces: list[bytes] = []
        connection = None
        try:
            async with asyncio.timeout(self._timeout_s) as timeout:
                connection = await self._connections.connect(endpoint.url)
                await connection.ask(
                    encode_request(
                        call.method, endpoint.url, call.path, endpoint.api_key, call.content_type, call.body
                    )
                )
                if connection.streams:
                    answer = await self._stream(call, connection, pieces, sink)
                else:
                    answer = _whole(connection.status, connection.content_type, connection.body())
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
            pieces.append(piece)
            try:
                await sink(connection.content_type, piece)
            except OSError as error:
                raise HarnessGone from error
        body = b"".join(pieces)
        facts = facts_of_stream(body)
        answer = Answer(200, connection.content_type, body, facts, error=facts.error, ttft_ms=ttft_ms)
        answer.streamed = bool(pieces)
        answer.again = not pieces
        return answer

    async def _is_healthy(self, endpoint: Endpoint) -> bool:
        connection = None
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                connection = await self._connections.connect(endpoint.url)
                await connection.ask(
                    encode_request("GET", endpoint.url, "/health", endpoint.api_key, JSON, b"")
                )
                return connection.status < 500
        except OSError:
            return False
        finally:
            if connection is not None:
                connection.close()


def _whole(status: int, content_type: str, body: bytes) -> Answer:
    facts = facts_of_body(body)
    if status in AGAIN:
        return Answer(status, content_type, body, facts, error=f"the server answered {status}", again=True)
    if status == 200 and facts.cut_off:
        answer = failure(502, "answer_cut_off", facts.error or "")
        answer.again = True
        return answer
    error = f"the server answered {status}" if status != 200 else facts.error
    return Answer(status, content_type, body, facts, error=error)
