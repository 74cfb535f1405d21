"""A stand-in for a model's server: OpenAI's API with made-up answers, and faults on demand.

    python -m tests.stand_ins.stand_in_server --port 0 --ready-file F [--model M] [--api-key K] [--delay-s S]

The ready file gets {"url", "pid"}. An answer is a pure function of the prompt and of how often that very
request came (`#1`, `#2` …), so a test sees whether something was asked twice. Faults are set by
`POST /stand-in/faults` with any of the keys of `Faults`; `GET /stand-in/seen` says what was asked. Both need
no key."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web


@dataclass
class Faults:
    """What goes wrong. `*_count` faults hit so many requests, then stop."""

    delay_s: float = 0.0
    """Before each answer."""
    delays_s: list[float] = field(default_factory=list)
    """Before the next answers, one each."""
    fail_count: int = 0
    fail_status: int = 500
    fail_body: str = '{"error": {"message": "made to fail", "type": "stand_in"}}'
    fail_type: str = "application/json"
    retry_after: str | None = None
    """The header of failing answers."""
    refuse_text: str | None = None
    """Requests that hold it are refused with 400."""
    break_count: int = 0
    """The connection is cut before the answer."""
    break_stream_after: int = -1
    """The connection is cut after so many events of a stream; -1: never."""
    event_delay_s: float = 0.0
    """Between the events of a stream."""
    stream_error: bool = False
    """A stream ends with an error event."""
    abort_count: int = 0
    """Answers cut off with finish_reason "abort"."""
    no_likelihoods: bool = False
    """Log-probabilities are those of generated tokens alone, whatever was asked for."""
    filter_text: str | None = None
    """Of requests that hold it the answer is withheld, with finish_reason "content_filter"."""
    health_status: int = 200
    answers_as: str | None = None
    """The model that answers say they are of."""
    no_models: bool = False
    """The list of models is empty."""
    answer_text: str | None = None
    """The text of every answer."""


class StandIn:
    """The server. `seen` holds each request's path, headers and body, oldest first."""

    def __init__(self, model: str = "stand-in", api_key: str | None = None) -> None:
        self.model = model
        self.api_key = api_key
        self.faults = Faults()
        self.seen: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self.in_flight = 0
        self.most_in_flight = 0
        self.release = asyncio.Event()
        self.release.set()
        self.url = ""

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**30)
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/stand-in/faults", self._set_faults)
        app.router.add_get("/stand-in/seen", self._report)
        app.router.add_post("/v1/{kind:.*}", self._post)
        return app

    @asynccontextmanager
    async def running(self, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[StandIn]:
        runner = web.AppRunner(self.app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, host, port, backlog=4096)
        await site.start()
        self.url = f"http://{host}:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(status=self.faults.health_status)

    async def _models(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        entry = {"id": self.model, "object": "model", "owned_by": "stand-in", "max_model_len": 4096}
        return web.json_response({"object": "list", "data": [] if self.faults.no_models else [entry]})

    async def _set_faults(self, request: web.Request) -> web.Response:
        for name, value in (await request.json()).items():
            if not hasattr(self.faults, name):
                return _error(400, f"no such fault: {name}")
            setattr(self.faults, name, value)
        return web.json_response({})

    async def _report(self, request: web.Request) -> web.Response:
        seen = [{"path": entry["path"], "body": entry["body"]} for entry in self.seen]
        return web.json_response({"seen": seen, "most_in_flight": self.most_in_flight})

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self.api_key is not None and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return _error(401, "wrong key")
        return None

    async def _post(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if refusal := self._refusal(request):
            return refusal
        text = body.decode(errors="replace")
        self.seen.append({"path": request.path, "headers": dict(request.headers), "body": text, "raw": body})
        identity = hashlib.sha256(request.path.encode() + body).hexdigest()
        self.counts[identity] += 1
        count = self.counts[identity]
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._answer(request, body, count)
        finally:
            self.in_flight -= 1

    async def _answer(self, request: web.Request, body: bytes, count: int) -> web.StreamResponse:
        faults = self.faults
        if faults.fail_count > 0:
            faults.fail_count -= 1
            headers = {} if faults.retry_after is None else {"Retry-After": faults.retry_after}
            return web.Response(
                status=faults.fail_status,
                text=faults.fail_body,
                content_type=faults.fail_type,
                headers=headers,
            )
        if faults.refuse_text is not None and faults.refuse_text.encode() in body:
            return _error(400, "made to fail")
        if faults.break_count > 0:
            faults.break_count -= 1
            _cut(request)
            return web.Response()
        await self.release.wait()
        delay_s = faults.delays_s.pop(0) if faults.delays_s else faults.delay_s
        if delay_s:
            await asyncio.sleep(delay_s)
        try:
            asked = json.loads(body)
        except ValueError:
            return _error(400, "the body is no JSON")
        match request.path:
            case "/v1/chat/completions" | "/v1/completions":
                chat = request.path == "/v1/chat/completions"
                if asked.get("model") != self.model:
                    return _error(404, f"The model `{asked.get('model')}` does not exist.")
                if asked.get("stream"):
                    return await self._stream(request, asked, count, chat)
                return web.json_response(self._whole(asked, count, chat))
            case "/v1/embeddings":
                return web.json_response(self._embeddings(asked))
        return _error(404, "Not Found")

    def _text(self, prompt: Any, count: int) -> str:
        if self.faults.answer_text is not None:
            return self.faults.answer_text
        digest = hashlib.sha256(json.dumps(prompt, sort_keys=True).encode()).hexdigest()
        return f"answer {digest[:8]} #{count}"

    def _whole(self, asked: dict[str, Any], count: int, chat: bool) -> dict[str, Any]:
        prompts = [asked["messages"]] if chat else _prompts(asked["prompt"])
        reason = "stop"
        if self.faults.abort_count > 0:
            self.faults.abort_count -= 1
            reason = "abort"
        if self.faults.filter_text is not None and self.faults.filter_text in json.dumps(asked):
            reason = "content_filter"
        choices: list[dict[str, Any]] = []
        prompt_tokens = completion_tokens = 0
        for prompt in prompts:
            tokens = _tokens(prompt)
            prompt_tokens += len(tokens)
            for number in range(int(asked.get("n") or 1)):
                text = self._text(prompt, count) + (f" choice {number}" if number else "")
                answered = text.split(" ")[: asked.get("max_tokens") or None]
                completion_tokens += len(answered)
                choice: dict[str, Any] = {"index": len(choices), "finish_reason": reason}
                if chat:
                    choice["message"] = {"role": "assistant", "content": " ".join(answered)}
                else:
                    shown = tokens if asked.get("echo") else []
                    choice["text"] = " ".join(shown + answered)
                    wanted = asked.get("logprobs")
                    rated = [] if self.faults.no_likelihoods else shown
                    choice["logprobs"] = None if wanted is None else _logprobs(rated, answered)
                choices.append(choice)
        kind = "chat.completion" if chat else "text_completion"
        return self._envelope(kind, choices) | {"usage": _usage(prompt_tokens, completion_tokens)}

    def _envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        head = {"id": f"stand-in-{time.monotonic_ns()}", "object": kind, "created": int(time.time())}
        return head | {"model": self.faults.answers_as or self.model, "choices": choices}

    async def _stream(
        self, request: web.Request, asked: dict[str, Any], count: int, chat: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        prompt = asked["messages"] if chat else asked["prompt"]
        words = self._text(prompt, count).split(" ")
        kind = "chat.completion.chunk" if chat else "text_completion"
        events: list[dict[str, Any]] = []
        for number, word in enumerate(words):
            piece = (" " if number else "") + word
            choice: dict[str, Any] = {
                "index": 0,
                "finish_reason": "stop" if number == len(words) - 1 else None,
            }
            choice |= {"delta": {"content": piece}} if chat else {"text": piece}
            events.append(self._envelope(kind, [choice]))
        if (asked.get("stream_options") or {}).get("include_usage"):
            events.append(self._envelope(kind, []) | {"usage": _usage(len(_tokens(prompt)), len(words))})
        if self.faults.stream_error:
            events.append({"error": {"message": "made to fail", "type": "stand_in"}})
        for number, event in enumerate(events):
            if number == self.faults.break_stream_after:
                _cut(request)
                return response
            await response.write(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n")
            await asyncio.sleep(self.faults.event_delay_s)
        await response.write(b"data: [DONE]\n\n")
        return response

    def _embeddings(self, asked: dict[str, Any]) -> dict[str, Any]:
        inputs = _prompts(asked["input"])
        data = [
            {"object": "embedding", "index": index, "embedding": [len(_tokens(item)) / 8, 0.5, -0.25]}
            for index, item in enumerate(inputs)
        ]
        usage = {"prompt_tokens": sum(len(_tokens(item)) for item in inputs)}
        return {"object": "list", "model": self.model, "data": data, "usage": usage | {"total_tokens": 0}}


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _error(status: int, message: str) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": status}
    return web.json_response({"error": error}, status=status)


def _prompts(prompt: Any) -> list[Any]:
    """A prompt is a text or a list of token ids; many are a list of those."""
    if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)):
        return [prompt]
    return list(prompt)


def _tokens(prompt: Any) -> list[str]:
    """Words stand in for tokens; a list of ids has one token for each."""
    if isinstance(prompt, str):
        return prompt.split(" ")
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], dict):
        return " ".join(str(message.get("content")) for message in prompt).split(" ")
    return [f"<{token}>" for token in prompt]


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


def _logprobs(shown: list[str], answered: list[str]) -> dict[str, Any]:
    """The first shown token has no logprob, as in OpenAI's API; the others depend on the token alone."""
    tokens = shown + answered
    values: list[float | None] = [-1.0 - hashlib.sha256(token.encode()).digest()[0] / 64 for token in tokens]
    if shown:
        values[0] = None
    offsets = [0]
    for token in tokens[:-1]:
        offsets.append(offsets[-1] + len(token) + 1)
    tops = [None if value is None else {token: value} for token, value in zip(tokens, values, strict=True)]
    return {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}


async def _serve(arguments: argparse.Namespace) -> None:
    stand_in = StandIn(arguments.model, arguments.api_key)
    stand_in.faults.delay_s = arguments.delay_s
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with stand_in.running(arguments.port, arguments.host):
        if arguments.ready_file is not None:
            temporary = arguments.ready_file.with_suffix(".part")
            temporary.write_text(json.dumps({"url": stand_in.url, "pid": os.getpid()}))
            temporary.replace(arguments.ready_file)
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ready-file", type=Path)
    parser.add_argument("--model", default="stand-in")
    parser.add_argument("--api-key")
    parser.add_argument("--delay-s", type=float, default=0.0)
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
