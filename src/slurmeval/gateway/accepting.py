"""Taking connections, no more than there are descriptors for: the others wait in the system's queue.

Without a bound, a harness that asks for everything at once leaves none for the way to the server.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

BACKLOG = 4096
OTHERS = 64
"""Descriptors for all but requests: logs, leases, questions to servers."""

_RETRY_S = 0.1
_logger = logging.getLogger(__name__)


def shares(limit: int, max_in_flight: int) -> tuple[int, int]:
    """Requests under way at servers, and connections of the harness, that `limit` open files allow."""
    free = max(2, limit - OTHERS)
    in_flight = min(max_in_flight, free // 2)
    return in_flight, free - in_flight


class BoundedServer(web.Server):
    """aiohttp's server, with at most so many connections."""

    def __init__(self, *arguments: Any, connections: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._free = asyncio.Semaphore(connections)
        self._accepting: list[asyncio.Task[None]] = []

    @property
    def full(self) -> bool:
        """Whether further connections have to wait."""
        return self._free.locked()

    def listen(self, sockets: Sequence[socket.socket]) -> None:
        """Takes connections on them until `stop_listening`."""
        for listening in sockets:
            listening.setblocking(False)
            self._accepting.append(asyncio.create_task(self._accept(listening)))

    async def stop_listening(self) -> None:
        """Takes no further connections."""
        for task in self._accepting:
            task.cancel()
        await asyncio.wait(self._accepting)

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:
        """Makes room for another connection. aiohttp calls it."""
        super().connection_lost(handler, exc)
        self._free.release()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                await self._free.acquire()
                try:
                    connection, _ = await loop.sock_accept(listening)
                    await loop.connect_accepted_socket(self, connection)
                except OSError as error:
                    self._free.release()
                    _logger.warning("a connection could not be taken: %s", error)
                    await asyncio.sleep(_RETRY_S)


def tcp_socket(host: str, port: int) -> socket.socket:
    """Listens; port 0: any free one."""
    return socket.create_server((host, port), backlog=BACKLOG)


def unix_socket(path: Path) -> socket.socket:
    """Listens at a path; what a dead process left there is removed."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    listening.listen(BACKLOG)
    return listening
