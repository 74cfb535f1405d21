"""HTTP/1.1 connections to the server, kept open between requests.

aiohttp's client does more than is needed here and costs three times as much (docs/gateway.md has the
figures); the parsing is httptools'.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import cast
from urllib.parse import urlsplit

import httptools

CONNECT_TIMEOUT_S = 10.0

IDLE_S = 2.0
"""An idle connection older than this is not used again: vLLM closes its own after 5 s, and a request sent
into a closing connection is lost."""

_HIGH_WATER_BYTES = 2**20
"""Of a stream: unread pieces beyond this stop the reading until the harness has caught up."""


KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6),
)
"""Answers take minutes, and firewalls between nodes forget connections on which nothing is said. They also
tell of a node that has gone without a word."""


class Connection(asyncio.Protocol):
    """One connection: one request at a time."""

    def __init__(self) -> None:
        self.status = 0
        self.content_type = "application/json"
        self.retry_after: str | None = None
        self.streams = False
        """The answer is an event stream: `ask` has returned at its head, `pieces` gives its body."""
        self.reusable = False
        self.idle_since = 0.0
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: deque[bytes] = deque()
        self._unread = 0
        self._asked = False
        self._sized = False
        self._in_body = False
        self._complete = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def ask(self, request: bytes) -> None:
        """Sends a whole request; returns when its answer is there, of a stream the head. Raises OSError."""
        self.status, self.content_type, self.streams = 0, "application/json", False
        self.retry_after = None
        self._sized = self._in_body = self._complete = self.reusable = False
        self._pieces.clear()
        self._unread = 0
        if self._error is not None:
            raise self._error
        self._asked = True
        self._transport.write(request)
        while not self._complete and not self.streams:
            await self._wait()

    def body(self) -> bytes:
        """The whole body of an answer that is no stream."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    async def pieces(self) -> AsyncIterator[bytes]:
        """A stream's body as it comes. Raises OSError when it breaks off."""
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._unread -= len(piece)
                if self._unread < _HIGH_WATER_BYTES:
                    self._transport.resume_reading()
                yield piece
            if self._complete:
                return
            await self._wait()

    def close(self) -> None:
        """Ends it at once."""
        self._transport.abort()

    def break_off(self, reason: str) -> None:
        """Ends it with its request, which fails with `reason`."""
        self._error, self._in_body = ConnectionError(reason), False
        self._transport.abort()
        self._wake()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the transport calls
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the transport. asyncio calls it."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class

    def data_received(self, data: bytes) -> None:
        """Parses what has arrived. asyncio calls it."""
        try:
            if not self._asked:
                raise httptools.HttpParserError("an answer that was not asked for")
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._error = ConnectionError(f"what it answered is no HTTP ({error})")
            self._transport.abort()
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the request under way. asyncio calls it."""
        if self._in_body and not self._sized and exc is None:  # the answer ends with the connection
            self._complete = True
        if self._error is None:
            self._error = exc if isinstance(exc, OSError) else ConnectionError("it was closed by the server")
        self.reusable = False
        self._wake()

    # What the parser calls
    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes in one header. httptools calls it."""
        name = name.lower()
        if name == b"content-type":
            self.content_type = value.decode("latin-1")
        elif name in (b"content-length", b"transfer-encoding"):
            self._sized = True
        elif name == b"retry-after":
            self.retry_after = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Takes in the status. httptools calls it."""
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self._in_body = True
            if self.status == 200 and self.content_type.startswith("text/event-stream"):
                self.streams = True
                self._wake()

    def on_body(self, body: bytes) -> None:
        """Takes in a piece of the body, and stops reading where too much is unread. httptools calls it."""
        self._pieces.append(body)
        if self.streams:
            self._unread += len(body)
            if self._unread > _HIGH_WATER_BYTES:
                self._transport.pause_reading()
            self._wake()

    def on_message_complete(self) -> None:
        """Ends the answer. httptools calls it."""
        if self._in_body:
            self._in_body = False
            self._complete = True
            self._asked = False
            self.reusable = self._parser.should_keep_alive()
            self._wake()


class Connections:
    """The open connections, by URL."""

    def __init__(self) -> None:
        self._idle: dict[str, list[Connection]] = {}

    async def connect(self, url: str) -> Connection:
        """An idle connection, or a new one. Raises OSError."""
        idle = self._idle.get(url)
        newest_useless = time.monotonic() - IDLE_S
        while idle:
            connection = idle.pop()
            if connection.reusable and connection.idle_since > newest_useless:
                return connection
            connection.close()
        return await self.open(url)

    @staticmethod
    async def open(url: str) -> Connection:
        """A new connection. Raises OSError."""
        parts = urlsplit(url)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                transport, connection = await asyncio.get_running_loop().create_connection(
                    Connection, parts.hostname or "", parts.port or 80
                )
        except TimeoutError:
            raise ConnectionError(f"no connection within {CONNECT_TIMEOUT_S:g} s") from None
        for level, option, value in KEEP_ALIVE:
            transport.get_extra_info("socket").setsockopt(level, option, value)
        return connection

    def give_back(self, url: str, connection: Connection) -> None:
        """After an answer was read to its end; closed where it cannot be used again."""
        if connection.reusable:
            connection.idle_since = time.monotonic()
            self._idle.setdefault(url, []).append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Ends the idle connections."""
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()


def encode_request(method: str, url: str, path: str, api_key: str, content_type: str, body: bytes) -> bytes:
    """A request with the headers that a server needs, and no others."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {url.partition('//')[2]}\r\nAuthorization: Bearer {api_key}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\nAccept-Encoding: identity\r\n\r\n"
    )
    return head.encode("utf-8", "surrogateescape") + body
