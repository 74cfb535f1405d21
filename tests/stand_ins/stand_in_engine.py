"""The stand-in server behind vLLM's command line, for tests of the whole workflow.

    VLLM_API_KEY=… python -m tests.stand_ins.stand_in_engine --served-model-name N --host H --port P …

Flags that it does not know are ignored, but for `--break-at-start`, which is refused as vLLM refuses a bad
flag. Variables:
STAND_IN_SEEN    a file that gets a line for each request answered whole: the sha256 of its path and body
STAND_IN_DELAY_S seconds before each answer
STAND_IN_START_S seconds before it listens
STAND_IN_RATE    answers per second at most, for all requests together
STAND_IN_LAW     `step_s,sequence_s,seats`: an answer takes 50 to 350 steps, by the request's hash; a
                 step takes step_s, and sequence_s for each sequence in it; those without a seat wait
STAND_IN_FAIL_AFTER  after so many answers all others are refused with status 500, /health stays well
STAND_IN_TEXT    the text of every answer
STAND_IN_MODEL   serves another model than it was told to
STAND_IN_REFUSE  `model:text`: that model refuses requests that hold the text, with status 500
STAND_IN_FAULT   JSON: what is answered in the place of answers once the engine is ready: `status` (400),
                 `body` (an error) and `type` (JSON's). Of the requests that hold `text`, one in `one_in` (by
                 their hash) is answered so, its first `times` times"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sys
from collections import deque
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.stand_ins.stand_in_server import StandIn

TICK_S = 0.05
"""Sequences join and leave at most so much later than at each step."""


def tokens_of(seen: str) -> int:
    """The length of an answer under STAND_IN_LAW, by its request's line in STAND_IN_SEEN."""
    return 50 + int(seen, 16) % 301


class Batch:
    """The law of STAND_IN_LAW, in real time."""

    def __init__(self, step_s: float, sequence_s: float, seats: float) -> None:
        self.step_s, self.sequence_s, self.seats = step_s, sequence_s, int(seats)
        self.waiting: deque[list[Any]] = deque()
        self.running: list[list[Any]] = []
        self.task: asyncio.Task[None] | None = None

    async def answer(self, tokens: int) -> None:
        """Returns when so many tokens have been made."""
        done = asyncio.get_running_loop().create_future()
        self.waiting.append([tokens, done])
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self._run())
        await done

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self.waiting or self.running:
            while self.waiting and len(self.running) < self.seats:
                self.running.append(self.waiting.popleft())
            step_s = self.step_s + self.sequence_s * len(self.running)
            steps = min(max(1, int(TICK_S / step_s)), *(left for left, _ in self.running), 10**9)
            now += steps * step_s
            await asyncio.sleep(max(0.0, now - loop.time()))
            for sequence in self.running:
                sequence[0] -= steps
                if sequence[0] <= 0 and not sequence[1].done():
                    sequence[1].set_result(None)
            self.running = [sequence for sequence in self.running if sequence[0] > 0]


class StandInEngine(StandIn):
    """A stand-in server with vLLM's metrics, that writes down what it answered."""

    def __init__(self, model: str, api_key: str) -> None:
        super().__init__(model, api_key)
        self.turn = asyncio.Lock()
        law = os.environ.get("STAND_IN_LAW")
        self.batch = Batch(*map(float, law.split(","))) if law else None

    def app(self) -> web.Application:
        app = super().app()
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _metrics(self, _request: web.Request) -> web.Response:
        label = f'{{model_name="{self.model}"}}'
        figures = {
            "generation_tokens_total": sum(self.counts.values()),
            "prompt_tokens_total": sum(self.counts.values()),
            "num_requests_running": self.in_flight,
        }
        return web.Response(
            text="".join(f"vllm:{name}{label} {value}.0\n" for name, value in figures.items())
        )

    async def _answer(self, request: web.Request, body: bytes, count: int) -> web.StreamResponse:
        model, _, text = os.environ.get("STAND_IN_REFUSE", "").partition(":")
        if text and model == self.model and text.encode() in body:
            return web.json_response({"error": {"message": "made to fail"}}, status=500)
        if (fault := _fault(len(self.seen), body, count)) is not None:
            return fault
        if len(self.seen) > int(os.environ.get("STAND_IN_FAIL_AFTER", "1000000000")):
            return web.json_response({"error": {"message": "made to fail"}}, status=500)
        if rate := float(os.environ.get("STAND_IN_RATE", "0")):
            async with self.turn:
                await asyncio.sleep(1 / rate)
        line = hashlib.sha256(request.path.encode() + body).hexdigest()
        if self.batch is not None and len(self.seen) > 1:  # the first is the readiness probe
            await self.batch.answer(tokens_of(line))
        answer = await super()._answer(request, body, count)
        if seen := os.environ.get("STAND_IN_SEEN"):
            with Path(seen).open("a") as stream:
                stream.write(line + "\n")
        return answer


def _fault(seen: int, body: bytes, count: int) -> web.Response | None:
    """What STAND_IN_FAULT says of a request that comes for the `count`th time. The first of all `seen` is the
    readiness probe."""
    fault = json.loads(os.environ.get("STAND_IN_FAULT", "{}"))
    chosen = int(hashlib.sha256(body).hexdigest(), 16) % fault.get("one_in", 1) == 0
    if not fault or seen < 2 or not chosen or count > fault.get("times", 10**9):
        return None
    if fault.get("text", "").encode() not in body:
        return None
    error = '{"error": {"message": "made to fail", "type": "stand_in"}}'
    kind = fault.get("type", "application/json")
    return web.Response(status=fault.get("status", 400), text=fault.get("body", error), content_type=kind)


async def serve(arguments: argparse.Namespace) -> None:
    model = os.environ.get("STAND_IN_MODEL") or arguments.served_model_name
    engine = StandInEngine(model, os.environ["VLLM_API_KEY"])
    engine.faults.delay_s = float(os.environ.get("STAND_IN_DELAY_S", "0"))
    engine.faults.answer_text = os.environ.get("STAND_IN_TEXT")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), float(os.environ.get("STAND_IN_START_S", "0")))
    async with engine.running(arguments.port, arguments.host):
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="api_server.py")
    for name in ("--model", "--served-model-name", "--host"):
        parser.add_argument(name, required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments, others = parser.parse_known_args()
    if "--break-at-start" in others:
        print("api_server.py: error: unrecognized arguments: --break-at-start", file=sys.stderr)
        sys.exit(2)
    asyncio.run(serve(arguments))


if __name__ == "__main__":
    main()
