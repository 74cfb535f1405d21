"""A bound on the request bodies that are held in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType


class Memory:
    """So many bytes, given out in the order of asking."""

    def __init__(self, size: int) -> None:
        self.free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def holding(self) -> Share:
        """A share, empty at first; a context manager that gives it back."""
        return Share(self)

    async def take(self, count: int) -> None:
        """Waits until `count` bytes are free. `count` is at most the whole size."""
        if not self._waiting and self.free >= count:
            self.free -= count
            return
        entry = (count, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            await entry[1]
        except asyncio.CancelledError:
            if not entry[1].cancelled():  # it was given out in the same moment
                self.give(count)
            raise

    def give(self, count: int) -> None:
        """Gives `count` bytes back, to those that wait first."""
        self.free += count
        while self._waiting and (self._waiting[0][1].cancelled() or self._waiting[0][0] <= self.free):
            wanted, future = self._waiting.popleft()
            if not future.cancelled():
                self.free -= wanted
                future.set_result(None)


class Share:
    """Part of the memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._size = 0

    async def take(self, count: int) -> None:
        """Takes `count` further bytes, once they are free."""
        await self._memory.take(count)
        self._size += count

    def keep(self, count: int) -> None:
        """Gives back all but `count` bytes."""
        self._memory.give(self._size - count)
        self._size = count

    def __enter__(self) -> Share:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.keep(0)
