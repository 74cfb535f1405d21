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
from slurmeval.gateway.finder import Endpoint, Refusal, Server
from slurmeval.gateway.probe import probe
from slurmeval.gateway.replicas import Replicas
from slurmeval.gateway.settings import GatewayConfig
from slurmeval.gateway.trouble import Trouble

AGAIN = frozenset({500, 502, 503, 504})
"""Statuses after which a request is sent again."""

STRANGE = frozenset({401, 403, 404})
"""Statuses that somebody else's server would answer, had it taken over the port: it is looked at again."""

PAUSE_S = 0.5
"""Before a request is sent to a server again at which it failed; doubles each time, up to PAUSE_MAX_S."""
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
    model: str | None = None
    """Which model is asked; None: the request does not say."""


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


class Upstream:
    """The servers as requests see them. An async context manager: it follows them while it is open."""

    def __init__(self, config: GatewayConfig) -> None:
        self._retries = config.retries
        self._timeout_s = config.request_timeout_s
        self._model = config.model
        self._connections = Connections()
        self.replicas = Replicas(config.leases, config.hold_s, self._probe)
        self.trouble = Trouble()

    async def __aenter__(self) -> Upstream:
        self._following = asyncio.create_task(self.replicas.follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._following.cancel()
        await asyncio.wait([self._following])
        self._connections.close()

    async def _probe(self, endpoint: Endpoint) -> Refusal | None:
        return await probe(endpoint, self._model)

    async def ask(self, call: Call, sink: Sink) -> Answer:
        """The answer of whichever server or life gives it first. Raises HarnessGone."""
        answer = await self._ask(call, sink)
        if call.method == "POST" and not answer.timed_out and answer.endpoint is not None:
            if answer.failed:
                self.trouble.failed(answer.error or "", answer.endpoint.server_id)
            else:
                self.trouble.answered()
        return answer

    async def _ask(self, call: Call, sink: Sink) -> Answer:
        """A try that failed because the server went away is made again for as long as it takes; one that
        failed at a server that answers others goes to each other replica, then all over again `retries`
        times. Raises HarnessGone."""
        attempt = retried = 0
        failed_at: list[Server] = []
        while True:
            try:
                server = await self.replicas.take(failed_at)
            except ServerFailed as error:
                self.trouble.lost = str(error)
                answer = failure(503, "server_lost", str(error))
                answer.attempt = attempt
                return answer
            attempt += 1
            server.in_flight += 1
            try:
                answer = await self._try(server, call, sink)
            finally:
                server.in_flight -= 1
            answer.endpoint, answer.attempt = server.endpoint, attempt
            if not answer.timed_out:
                self.replicas.note(server, answer.failed)
            if not answer.again and answer.status not in STRANGE:
                return answer
            if not await self.replicas.still_answers(server):
                continue
            if answer.timed_out or not answer.again:
                return answer
            failed_at.append(server)
            if self.replicas.others(failed_at):
                continue
            if retried >= self._retries:
                return answer
            await asyncio.sleep(min(PAUSE_S * 2**retried, PAUSE_MAX_S))
            retried += 1
            failed_at.clear()

    async def _try(self, server: Server, call: Call, sink: Sink) -> Answer:
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
                    answer = _whole(call, connection.status, connection.content_type, connection.body())
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
                if (stranger := _wrong_model(call, facts_of_stream(piece))) is not None:
                    return stranger
            pieces.append(piece)
            try:
                await sink(connection.content_type, piece)
            except OSError as error:
                raise HarnessGone from error
        body = b"".join(pieces)
        facts = facts_of_stream(body)
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


def _whole(call: Call, status: int, content_type: str, body: bytes) -> Answer:
    facts = facts_of_body(body)
    if status in AGAIN:
        return Answer(status, content_type, body, facts, error=f"the server answered {status}", again=True)
    if status == 200 and facts.cut_off:
        answer = failure(502, "answer_cut_off", facts.error or "")
        answer.again = True
        return answer
    if status == 200 and (stranger := _wrong_model(call, facts)) is not None:
        return stranger
    error = f"the server answered {status}" if status != 200 else facts.error
    return Answer(status, content_type, body, facts, error=error)
