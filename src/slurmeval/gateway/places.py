"""How many requests an evaluation has under way where its benchmark does not say.

A step of an engine on a GPU takes hardly longer with more sequences in it, so what costs is an empty seat
(docs/speed.md has figures). The evaluations that run on a server share its seats, and as they end, their
places go to those that run on: each harness asks as if it were alone, and its gateway holds back what is over
its share.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType

OVER = 4
"""All shares together are so many times the seats: none is empty while an evaluation ends, or asks slowly.
More would keep requests waiting in the engine, which counts for their time-out."""
LEAST, MOST = 8, 1024
"""Of one evaluation."""


def of_each(seats: int, evaluations: int) -> int:
    """Requests that each of so many evaluations has under way."""
    share = -(-OVER * seats // max(1, evaluations))
    return min(MOST, max(LEAST, min(seats, share)))


class Places:
    """A semaphore whose number may change: `async with`."""

    def __init__(self, number: int) -> None:
        self._number, self._taken = number, 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def resize(self, number: int) -> None:
        """Changes the number. Who has a place keeps it."""
        self._number = number
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._taken < self._number:
            if not (first := self._waiting.popleft()).done():
                self._taken += 1
                first.set_result(None)

    async def __aenter__(self) -> None:
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # it was given in this very moment
                self._give_back()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def _give_back(self) -> None:
        self._taken -= 1
        self._admit()
