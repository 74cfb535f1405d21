"""Passes requests on to a server that slurmeval did not start: `python -m slurmeval.engines.forwarder`.

It answers as an engine does: `/health`, `/metrics` and `/v1`, for its own key. It puts the server's key into
requests, so that only this process knows it, counts what they cost, and ends when the budget is spent.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from slurmeval.engines import api_check
from slurmeval.engines.external import KEY_VARIABLE, READY_PATH
from slurmeval.errors import SlurmevalError
from slurmeval.parent_death import signal_at_parent_death
from slurmeval.retrying import requested_wait_s, retry_after_s
from slurmeval.state.external import ExternalServer, Spent
from slurmeval.state.records import decode, read, write

CONNECT_S = 30.0
SAVE_S = 1.0
"""Seconds between two writes of what was spent."""
MAX_REQUEST_BYTES = 64 * 1024**2
BUSY = frozenset({429, 503, 529})
"""Statuses of an API that has too much to do: the gateway is to come again, as often as it takes."""

EVENTS = "text/event-stream"


class Forwarder:
    """The requests of one model, and what they cost."""

    def __init__(self, server: ExternalServer, served_name: str, own_key: str) -> None:
        """Raises OSError where the server's key cannot be read."""
        self._server, self._served_name, self._own_key = server, served_name, own_key
        self._key = None if server.key_file is None else Path(server.key_file).read_text(encoding="utf-8")
        self._spent_file = Path(server.spent_file)
        self._spent = self._saved = read(self._spent_file, Spent) or Spent()
        self._before = self._spent
        self._in_flight = 0
        self._room = asyncio.Semaphore(server.max_in_flight)
        self._ended: str | None = None
        self.is_spent = asyncio.Event()
        """Set once nothing may be asked any more and no request is under way."""
        self._names: set[str] = set()

    def refuse_if_spent(self) -> None:
        """Raises SlurmevalError where the budget is spent, or the server's credit."""
        if (said := self._over()) is not None:
            raise SlurmevalError(said)

    def _over(self) -> str | None:
        return self._ended or self._server.budget.exceeded(self._spent)

    def app(self) -> web.Application:
        """Returns the web application. It is open while it runs."""
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get(READY_PATH, self._ready)
        app.router.add_post("/v1/{path:.+}", self._forward)
        app.cleanup_ctx.append(self._session)
        app.cleanup_ctx.append(self._saving)
        return app

    async def _session(self, _app: web.Application) -> AsyncIterator[None]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        headers = {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
        connector = aiohttp.TCPConnector(limit=0, ssl=api_check.trusted(os.environ))
        async with aiohttp.ClientSession(
            headers=headers, timeout=timeout, trust_env=True, connector=connector
        ) as self._client:
            yield

    async def _saving(self, _app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self._save_often())
        yield
        task.cancel()
        self._save()

    async def _save_often(self) -> None:
        while True:
            await asyncio.sleep(SAVE_S)
            self._save()

    def _save(self) -> None:
        if self._spent != self._saved:
            write(self._spent_file, self._spent)
            self._saved = self._spent

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _metrics(self, request: web.Request) -> web.Response:
        self._check_key(request)
        spent, before = self._spent, self._before
        figures = {
            "requests_total": spent.requests - before.requests,
            "prompt_tokens_total": spent.prompt_tokens - before.prompt_tokens,
            "generated_tokens_total": spent.generated_tokens - before.generated_tokens,
            "requests_in_flight": self._in_flight,
        }
        return web.Response(text="".join(f"forwarder_{name} {value}\n" for name, value in figures.items()))

    async def _models(self, request: web.Request) -> web.Response:
        self._check_key(request)
        return web.json_response({"object": "list", "data": [{"id": self._served_name, "object": "model"}]})

    async def _ready(self, request: web.Request) -> web.Response:
        """Answers 200 where the server takes the key and knows the model, or lists none."""
        self._check_key(request)
        fault = await api_check.fault(self._client, self._server)
        if fault is None:
            return web.Response(text="ready")
        return web.Response(status=502 if fault.may_pass else 400, text=fault.text)

    def _check_key(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._own_key}".encode()):
            raise web.HTTPUnauthorized(text="the key is another one")

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        self._check_key(request)
        body = self._amended(await request.read())
        if isinstance(body, web.Response):
            return body
        async with self._room:
            if self._over() is not None:
                await asyncio.Event().wait()  # the process ends, and with it the connection
            self._in_flight += 1
            self._spent = self._spent.plus(requests=1)
            try:
                return await self._passed_on(request, body)
            finally:
                self._in_flight -= 1
                if not self._in_flight and self._over() is not None:
                    self.is_spent.set()

    def _amended(self, body: bytes) -> bytes | web.Response:
        """Returns a request's body with the config's defaults, and the server's own names."""
        try:
            content = orjson.loads(body)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            return web.json_response({"error": {"message": "expected a JSON object"}}, status=400)
        content = {**self._server.generation, **content, "model": self._server.model}
        if content.get("stop") == []:
            del content["stop"]  # says nothing, and some servers refuse it
        for name, theirs in self._server.parameters.items():
            if name in content:
                value = content.pop(name)
                if theirs is not None:
                    content[theirs] = value
        return orjson.dumps(content)

    async def _passed_on(self, request: web.Request, body: bytes) -> web.StreamResponse:
        url = f"{self._server.url}/{request.match_info['path']}"
        headers = {"Content-Type": "application/json"}
        try:
            async with self._client.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                passed = _asks_to_wait(answer)
                if (elsewhere := api_check.redirected(answer)) is not None:
                    return web.json_response({"error": {"message": elsewhere}}, status=502)
                if answer.content_type == EVENTS:
                    return await self._streamed(request, answer, passed)
                content = await answer.read()
                if answer.status == 200:
                    content = self._taken_in(content, whole=True)
                else:
                    self._ended = self._ended or api_check.no_credit(answer.status, content)
                return web.Response(
                    status=answer.status, body=content, content_type=answer.content_type, headers=passed
                )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return web.json_response({"error": {"message": api_check.unreachable(error)}}, status=502)

    async def _streamed(
        self, request: web.Request, answer: aiohttp.ClientResponse, headers: dict[str, str]
    ) -> web.StreamResponse:
        """Passes a stream on, event by event."""
        response = web.StreamResponse(status=answer.status, headers=headers)
        response.content_type = EVENTS
        await response.prepare(request)
        try:
            async for line in answer.content:
                name, _, data = line.partition(b":")
                if name == b"data" and data.strip() != b"[DONE]":
                    line = b"data: " + self._taken_in(data.strip()) + b"\n"
                await response.write(line)
            await response.write_eof()
        except (aiohttp.ClientError, OSError) as error:
            print(f"a stream broke off: {str(error) or type(error).__name__}", flush=True)
            if request.transport is not None:  # no end: the gateway must see the break
                request.transport.close()
        return response

    def _taken_in(self, content: bytes, whole: bool = False) -> bytes:
        """Returns an answer (`whole`), or an event of one, with the name that the harness knows.

        Counts its tokens.
        """
        try:
            answer: Any = orjson.loads(content)
        except ValueError:
            return content
        if not isinstance(answer, dict):
            return content
        usage = answer.get("usage")
        if isinstance(usage, dict):
            self._spent = self._spent.plus(
                prompt_tokens=_count(usage.get("prompt_tokens")),
                generated_tokens=_count(usage.get("completion_tokens")),
            )
        elif whole and self._server.budget.tokens is not None and answer.get("choices"):
            self._ended = (
                "the server does not say how many tokens an answer takes, so budget.tokens is no limit"
            )
        if isinstance(name := answer.get("model"), str):
            if name not in self._names:
                self._names.add(name)
                print(f"the server calls the model {name!r:.200}", flush=True)
            answer["model"] = self._served_name
        _make_texts(answer.get("choices"))
        return orjson.dumps(answer)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _make_texts(choices: Any) -> None:
    """Makes the answers of chats texts, as harnesses expect.

    There may be none (withheld, or cut off in its thoughts), or a list of parts, of which Mistral's are the
    thoughts and the answer.
    """
    for choice in choices if isinstance(choices, list) else ():
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            continue
        content = message.get("content")
        if content is None and not message.get("tool_calls"):
            message["content"] = ""
        elif isinstance(content, list):
            message["content"] = _text_of(content, "text")
            if thoughts := _text_of(content, "thinking"):
                message["reasoning"] = thoughts


def _text_of(parts: list[Any], kind: str) -> str:
    """Returns the parts of one kind as a text; `thinking` holds parts of its own."""
    said = [part.get(kind) for part in parts if isinstance(part, dict) and part.get("type") == kind]
    return "".join(_text_of(each, "text") if isinstance(each, list) else str(each or "") for each in said)


def _asks_to_wait(answer: aiohttp.ClientResponse) -> dict[str, str]:
    """Returns the header that tells the gateway when to ask again; none: the answer says nothing of it."""
    wait_s = retry_after_s(answer.headers.get("Retry-After"))
    if answer.status in BUSY:
        wait_s = requested_wait_s(answer.headers) or 0.0
    return {} if wait_s is None or answer.status == 200 else {"Retry-After": f"{wait_s:.3f}"}


async def serve(server: ExternalServer, served_name: str, bind: str, port: int) -> None:
    """Forwards until SIGTERM or SIGINT.

    Raises:
        SlurmevalError: The budget is spent.
        OSError: The port cannot be had, or the key's file not be read.
    """
    forwarder = Forwarder(server, served_name, os.environ.pop(KEY_VARIABLE))
    forwarder.refuse_if_spent()
    # Who hangs up frees the place of its request: a server that never answers would take them all
    runner = web.AppRunner(forwarder.app(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await runner.setup()
    try:
        await web.TCPSite(runner, bind, port).start()
        ends = [asyncio.create_task(stop.wait()), asyncio.create_task(forwarder.is_spent.wait())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await runner.cleanup()
    forwarder.refuse_if_spent()


def main(arguments: list[str]) -> int:
    """`… forwarder <server as JSON> <served name> <address> <port>`. Status 1: the last line says why."""
    signal_at_parent_death(signal.SIGTERM)
    description, served_name, bind, port = arguments
    try:
        asyncio.run(serve(decode(orjson.loads(description), ExternalServer), served_name, bind, int(port)))
    except (SlurmevalError, OSError) as error:
        print(f"E: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
