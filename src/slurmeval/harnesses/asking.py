"""Asking the gateway, for harnesses that are slurmeval's own programs."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses.base import GATEWAY_KEY
from slurmeval.processes import raise_open_files

PROGRESS_S = 5.0
T = TypeVar("T")


class Asking:
    """The model, as a program asks it."""

    def __init__(self, session: aiohttp.ClientSession, order: dict[str, Any]) -> None:
        """`order` has `url`, `model`, `parallelism`, and `sampling`: parameters of each request."""
        self._session, self._order = session, order
        self.room = asyncio.Semaphore(order["parallelism"])
        """To be held while something is asked."""

    async def chat(self, messages: list[dict[str, str]]) -> tuple[str | None, str | None]:
        """Returns (answer, None), or (None, the reason why the server refused these messages).

        Raises:
            EvaluationFailed: No server answers (server_lost).
        """
        choice, error = await self._ask("chat/completions", {"messages": messages})
        return (None, error) if choice is None else (choice["message"]["content"] or "", None)

    async def complete(self, prompt: str, **parameters: Any) -> tuple[str | None, str | None]:
        """Returns what follows a text, as `chat` does."""
        choice, error = await self._ask("completions", {"prompt": prompt, **parameters})
        return (None, error) if choice is None else (choice["text"] or "", None)

    async def likelihoods(self, text: str) -> tuple[tuple[list[str], list[float | None]] | None, str | None]:
        """Returns a text's tokens with their log-probabilities in nats, as `chat` does.

        That of the first token is None, unless the server puts something before it.
        """
        asked = {"prompt": text, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0}
        choice, error = await self._ask("completions", asked)
        if choice is None:
            return None, error
        found = choice["logprobs"]
        # The last one was generated: servers refuse to generate nothing
        return (found["tokens"][:-1], found["token_logprobs"][:-1]), None

    async def _ask(self, route: str, asked: dict[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
        body = {"model": self._order["model"], **self._order["sampling"], **asked}
        try:
            async with self._session.post(f"{self._order['url']}/v1/{route}", json=body) as reply:
                text = await reply.text()
        except aiohttp.ClientError as error:
            raise EvaluationFailed(ErrorClass.SERVER_LOST, f"{type(error).__name__}: {error}") from error
        if reply.status >= 500:
            raise EvaluationFailed(ErrorClass.SERVER_LOST, _message(text, reply.status))
        if reply.status != 200:
            return None, _message(text, reply.status)
        choice: dict[str, Any] = json.loads(text)["choices"][0]
        return choice, None


@asynccontextmanager
async def asking(order: dict[str, Any]) -> AsyncIterator[Asking]:
    """Opens connections to the gateway."""
    raise_open_files()
    # No time-out: the gateway bounds each request, slurmeval the whole evaluation.
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {os.environ[GATEWAY_KEY]}"},
        timeout=aiohttp.ClientTimeout(total=None),
        connector=aiohttp.TCPConnector(limit=0),  # `parallelism` is the limit; aiohttp's own is 100
    ) as session:
        yield Asking(session, order)


async def all_at_once(
    items: Sequence[tuple[Any, ...]], make: Callable[..., Awaitable[T]], done: str
) -> list[T]:
    """Returns what `make` makes of each item, in their order, and says now and then how many are `done`."""
    count, said_at = 0, 0.0

    async def counted(item: tuple[Any, ...]) -> T:
        nonlocal count, said_at
        made = await make(*item)
        count, now = count + 1, time.monotonic()
        if count == len(items) or now - said_at >= PROGRESS_S:
            said_at = now
            print(f"{count} of {len(items)} {done}", flush=True)
        return made

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(counted(item)) for item in items]
    return [task.result() for task in tasks]


def _message(text: str, status: int) -> str:
    """Returns what an error answer says, in one line."""
    try:
        error = json.loads(text)["error"]
        return f"{error['message']} (status {status})"[:300]
    except (ValueError, KeyError, TypeError):
        return f"{' '.join(text.split())[:250]} (status {status})"
