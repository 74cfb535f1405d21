"""The gateway's HTTP server: who may ask, what is replayed, what goes to the server, what is logged."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from slurmeval.errors import ErrorClass
from slurmeval.gateway.accepting import BoundedServer
from slurmeval.gateway.amending import Amendments
from slurmeval.gateway.audit import Audit
from slurmeval.gateway.blank import blank_answer
from slurmeval.gateway.bodies import is_stream
from slurmeval.gateway.limit import with_limit, with_what_is_left
from slurmeval.gateway.log import Record, encode_exchange, encode_replay
from slurmeval.gateway.memory import Memory
from slurmeval.gateway.places import LEAST, Places, of_each
from slurmeval.gateway.replay import Replays, parse, request_key
from slurmeval.gateway.retry_policy import PROMPTS
from slurmeval.gateway.settings import GatewayConfig
from slurmeval.gateway.thoughts import Thoughts, stops_of
from slurmeval.gateway.upstream import JSON, Answer, Call, HarnessGone, Upstream, described, failure
from slurmeval.gateway.writer import LogFailed, LogWriter
from slurmeval.state.evaluation import GatewayProgress

MAX_BODY_BYTES = 64 * 2**20
"""Longest request; a longer one is answered 413."""

MAX_WAITING_BYTES = 256 * 2**20
"""Request bodies in memory at once; more stay unread in their connections."""


class GatewayApp:
    """Answers the harness."""

    def __init__(
        self, api_key: str, config: GatewayConfig, upstream: Upstream, replays: Replays, log: LogWriter
    ) -> None:
        self._authorization = f"Bearer {api_key}".encode()
        self._upstream = upstream
        self._replays = replays
        self._log = log
        self._most, self._seats = config.max_in_flight, config.seats
        self._slots = Places(self._most if self._seats is None else min(self._most, LEAST))
        self.audit = (
            Audit(config.noise_audit, config.log, upstream, self._slots) if config.noise_audit else None
        )
        self._max_tokens = config.max_tokens
        self._blank_refused = config.blank_refused
        self._thoughts = Thoughts(config.thoughts) if config.reasons else None
        self._memory = Memory(MAX_WAITING_BYTES)
        self._amendments = Amendments()
        self._logged = 0
        self.progress = GatewayProgress()

    def server(self, connections: int) -> BoundedServer:
        """The server that takes at most so many connections. A request ends when its client hangs up."""
        loop = asyncio.get_running_loop()

        def make_request(
            message: Any, payload: Any, protocol: Any, writer: Any, task: Any
        ) -> web.BaseRequest:
            return web.BaseRequest(
                message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES
            )

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            response = await self.handle(request)
            if server.full:  # a harness's idle connection would keep others waiting
                response.force_close()
            return response

        server = BoundedServer(
            handle,
            connections=connections,
            request_factory=make_request,
            handler_cancellation=True,
            access_log=None,
        )
        return server

    def take_share(self) -> None:
        """Takes the part of the servers' seats that is this evaluation's now.

        A server that tells of none has not counted this one yet, nor those that began with it.
        """
        if self._seats is not None and (running := self._upstream.replicas.running):
            self._slots.resize(min(self._most, of_each(self._seats, running)))

    def progress_report(self) -> GatewayProgress:
        """What `GET /progress` answers; docs/gateway.md describes it."""
        breaker = self._upstream.breaker
        failure, error_class = self._log.failure, ErrorClass.HARNESS_ERROR
        if failure is None:
            failure, error_class = breaker.failure(), ErrorClass.SERVER_LOST
        replicas = self._upstream.replicas
        return replace(
            self.progress,
            holding=replicas.holding,
            reaches=replicas.known,
            away=None if replicas.known else replicas.away(),
            stored=self._replays.stored,
            failure=failure,
            failure_class=None if failure is None else error_class,
            failing=breaker.reason(),
        )

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request of the harness, from the log or the server."""
        path = request.path
        if path == "/health":
            known = self._upstream.replicas.known
            return _respond(
                200 if known else 503, JSON, orjson.dumps({"status": "ok" if known else "holding"})
            )
        sent = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(sent, self._authorization):
            return _answer(
                failure(401, "invalid_api_key", "the gateway's own key is needed as a bearer token")
            )
        if request.method == "GET" and path == "/progress":
            return _respond(200, JSON, orjson.dumps(self.progress_report()))
        if path.startswith("/v1/"):
            if request.method == "POST":
                return await self._post(request)
            if request.method == "GET":
                return await self._get(request)
        return _answer(failure(404, "not_found", f"no such path: {request.method} {path}"))

    async def _get(self, request: web.BaseRequest) -> web.StreamResponse:
        call = Call("GET", request.raw_path, b"", JSON, time.monotonic())
        reply = Reply(request)
        answer = await self._upstream.ask(call, reply.piece)
        return await reply.finish(answer)

    async def _post(self, request: web.BaseRequest) -> web.StreamResponse:
        size = request.content_length
        with self._memory.holding() as held:
            await held.take(MAX_BODY_BYTES if size is None else min(size, MAX_BODY_BYTES))
            try:
                body = await request.read()
            except web.HTTPRequestEntityTooLarge:
                return _answer(failure(413, "too_large", f"a request has at most {MAX_BODY_BYTES} bytes"))
            held.keep(len(body))
            content_type = request.headers.get("Content-Type", JSON)
            call = Call("POST", request.raw_path, body, content_type, time.monotonic())
            try:
                return await self._answer_from_log_or_server(request, call)
            except LogFailed as error:
                self.progress.errors += 1
                return _answer(failure(503, "log_failed", str(error)))

    async def _answer_from_log_or_server(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        if self._log.failure is not None:
            raise LogFailed(self._log.failure)
        started_at = time.time()
        is_json, value = parse(call.body)
        if isinstance(value, dict):
            spared = self._thoughts is not None and self._thoughts.spare(call.path, value)
            changed = self._amendments.of(call.path, value)
            if spared or changed:
                value |= changed
                call.body = orjson.dumps(value)
        stops = stops_of(value)
        key = request_key(call.path, call.body, is_json, value)
        stored = self._replays.take(key)
        if stored is not None:
            return self._replay(stored, started_at, call, stops)
        if isinstance(value, dict) and isinstance(value.get("model"), str):
            call.model = value["model"]
        reply = Reply(request, self._thoughts, stops)
        gone = failure(
            499, "hung_up", "the harness hung up, or the gateway was stopped, before the answer was whole"
        )
        try:
            async with self._slots:
                self.progress.in_flight += 1
                try:
                    answer = await self._ask(call, value, reply)
                finally:
                    self.progress.in_flight -= 1
        except asyncio.CancelledError:
            self._record(call, key, is_json, started_at, gone)
            raise
        except HarnessGone:
            answer = gone
        try:
            self._record(call, key, is_json, started_at, answer)
        except LogFailed as error:
            answer = failure(503, "log_failed", str(error))
        if self._blank_refused and answer.status in PROMPTS:
            blank = blank_answer(call.path, value)
            answer = answer if blank is None else replace(answer, status=200, content_type=JSON, body=blank)
        return await reply.finish(answer)

    async def _ask(self, call: Call, value: Any, reply: Reply) -> Answer:
        limited = with_limit(call.path, value, self._max_tokens)
        call.body = limited or call.body
        answer = await self._upstream.ask(call, reply.piece)
        if limited is not None and answer.status == 400:
            call.body = with_what_is_left(value)
            answer = await self._upstream.ask(call, reply.piece)
        return answer

    def _replay(
        self, stored: Record, started_at: float, call: Call, stops: Sequence[str]
    ) -> web.StreamResponse:
        latency_ms = (time.monotonic() - call.arrived) * 1000
        self._log.write(encode_replay(stored.request_id, started_at, latency_ms))
        self.progress.replayed += 1
        self._count(200, None, stored.prompt_tokens, stored.completion_tokens)
        content_type, body = stored.content_type or JSON, stored.response_body or b""
        if self._thoughts is not None:
            body = self._thoughts.without(content_type, body, stops)
        return _respond(200, content_type, body, replayed=True)

    def _record(self, call: Call, key: bytes, is_json: bool, started_at: float, answer: Answer) -> None:
        """Logs an exchange before it is answered (a stream: before its end is sent). Raises LogFailed."""
        self._logged += 1
        meta = described(f"{self._log.segment:04d}-{self._logged:06d}", call, key, started_at, answer)
        facts, error = answer.facts, meta["error"]
        self._count(answer.status, error, facts.prompt_tokens, facts.completion_tokens)
        self._log.write(encode_exchange(meta, call.body, is_json, answer.body, facts.is_json))
        if self.audit is not None and answer.status == 200 and error is None and self.audit.chosen(key):
            self.audit.again(meta["request_id"], call, key, is_json)

    def _count(
        self, status: int, error: str | None, prompt_tokens: int | None, completion_tokens: int | None
    ) -> None:
        if status == 200 and error is None:
            self.progress.answered += 1
        else:
            self.progress.errors += 1
        self.progress.prompt_tokens += prompt_tokens or 0
        self.progress.completion_tokens += completion_tokens or 0


class Reply:
    """What goes back to the harness: whole, or piece by piece."""

    def __init__(
        self, request: web.BaseRequest, thoughts: Thoughts | None = None, stops: Sequence[str] = ()
    ) -> None:
        """`thoughts`: what of the answer is kept back; `stops`: where the answer ends."""
        self._request = request
        self._stream: web.StreamResponse | None = None
        self._thoughts = thoughts
        self._stops = stops
        self._split = None if thoughts is None else thoughts.stream(stops)

    async def piece(self, content_type: str, data: bytes) -> None:
        """Sends the next piece of a stream. Raises OSError when the harness has hung up."""
        if self._stream is None:
            self._stream = web.StreamResponse(
                headers={"Content-Type": content_type, "Cache-Control": "no-cache"}
            )
            await self._stream.prepare(self._request)
        await self._stream.write(data if self._split is None else self._split.feed(data))

    async def finish(self, answer: Answer) -> web.StreamResponse:
        """Sends the answer, or what of it is not sent yet."""
        if self._stream is None:
            if self._thoughts is not None and answer.status == 200:
                answer = replace(
                    answer, body=self._thoughts.without(answer.content_type, answer.body, self._stops)
                )
            return _answer(answer)
        if answer.status == 200:
            with contextlib.suppress(OSError):
                await self._stream.write_eof(b"" if self._split is None else self._split.end())
            return self._stream
        if self._request.transport is not None:  # no end of the stream: the harness must see the break
            self._request.transport.close()
        return self._stream


def _answer(answer: Answer) -> web.Response:
    return _respond(answer.status, answer.content_type, answer.body)


def _respond(status: int, content_type: str, body: bytes, replayed: bool = False) -> web.Response:
    if status == 200 and not is_stream(content_type) and body[:64].lstrip().startswith(b"{"):
        content_type = JSON  # clients that look at the type would refuse what a proxy calls text
    headers = {"Content-Type": content_type}
    if replayed:
        headers["X-Slurmeval-Replayed"] = "1"
    return web.Response(status=status, body=body, headers=headers)
