"""Where a replica's server is: lease -> server folder -> endpoint and state. Read again while it is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from slurmeval.gateway.connection import Connection
from slurmeval.state import server as records
from slurmeval.state.lease import Lease
from slurmeval.state.records import Unreadable, load
from slurmeval.state.server import ServerState, ServerStatus, read_gone

AWAY_POLL_S = 0.25
"""Seconds between two looks for a server that is away."""

SILENT_PROBES = 2
"""Probes without answer after which a server that is not asked any more counts as dead."""

KNOWN_POLL_S = 2.0
"""Seconds between two looks at a server that answers (it may announce that it drains, or the lease may move),
and between two questions to a server that answers, but is not ours."""

SERVES_NO_MORE = frozenset({ServerStatus.DRAINING, ServerStatus.RESTARTING, ServerStatus.STOPPED})
"""Statuses whose endpoint is no longer used: the evaluation leases another server, or ends."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerEndpoint:
    """One engine run of one server."""

    url: str
    api_key: str
    server_id: str
    engine_run: int
    folder: Path

    def __repr__(self) -> str:
        return f"Endpoint({self.url}, server {self.server_id}, engine run {self.engine_run})"


@dataclass(frozen=True)
class Refusal:
    """Why an endpoint is not used."""

    reason: str
    answers: bool = False
    """It answers, but not as our server: there is no hurry to ask again."""


Probe = Callable[[ServerEndpoint], Awaitable[Refusal | None]]
"""Asks an endpoint whether it is healthy and ours; None: it is."""


@dataclass(frozen=True)
class Lookup:
    """What one look found: an endpoint, or why there is none (for now, or for good)."""

    endpoint: ServerEndpoint | None
    reason: str
    lost: bool = False
    given_up: bool = False
    """The lease itself says that it needs no server, or has none."""
    running: int = 0
    """Evaluations that run on the server, as it says."""


def look(lease: Path, before: ServerEndpoint | None = None) -> Lookup:
    """Reads the files.

    Whatever is missing or half-written means: away for now. While the lease is being replaced, or names a
    server that has no endpoint yet, the one used `before` serves on, if it still does: a lease moves to a
    successor without a gap.
    """
    lookup = _look_by_lease(lease)
    if lookup.endpoint is None and not lookup.given_up and before is not None:
        old = look_at(before.folder)
        if old.endpoint == before:
            return old
    return lookup


def _look_by_lease(path: Path) -> Lookup:
    try:
        lease = load(path, Lease)
    except FileNotFoundError:
        return Lookup(None, f"there is no {path} yet")
    except (OSError, Unreadable) as error:
        return Lookup(None, f"the lease {path} cannot be read now: {error}")
    if lease.released:
        return Lookup(None, f"the lease {path} is released", given_up=True)
    if lease.server is None:
        return Lookup(None, f"the lease {path} names no server", given_up=True)
    return look_at(lease.server)


def look_at(folder: Path) -> Lookup:
    """Reads the files of one server."""
    server_id = f"{folder.parent.name}/{folder.name}"
    try:
        if (gone := read_gone(folder / "gone")) is not None:
            return Lookup(None, f"server {server_id} is gone: {gone}")
        state = load(folder / "state.json", ServerState)
        if state.status is ServerStatus.FAILED:
            return Lookup(None, f"server {server_id}: {state.reason or 'it has failed'}", lost=True)
        if state.status in SERVES_NO_MORE:
            return Lookup(None, f"server {server_id} is {state.status}")
        found = load(folder / "endpoint.json", records.Endpoint)
        endpoint = ServerEndpoint(found.url.rstrip("/"), found.api_key, server_id, found.engine_run, folder)
        return Lookup(endpoint, f"server {server_id} answers", running=state.evaluations)
    except FileNotFoundError as error:
        return Lookup(None, f"there is no {error.filename} yet")
    except (OSError, Unreadable) as error:
        return Lookup(None, f"the server's files cannot be read now: {error}")


class LeasedServer:
    """An endpoint in use: how many requests are under way at it, and how it has done lately."""

    __slots__ = ("asked", "endpoint", "failures", "in_flight", "rest_until")

    def __init__(self, endpoint: ServerEndpoint) -> None:
        self.endpoint = endpoint
        self.in_flight = 0
        self.asked: set[Connection] = set()
        """The connections on which they are."""
        self.failures = 0
        """Failed requests since the last good answer."""
        self.rest_until = 0.0
        """Until then others are preferred (monotonic clock)."""


class Replica:
    """Follows one lease."""

    def __init__(self, lease: Path, probe: Probe, changed: Callable[[], None]) -> None:
        """`changed` is called after each look that found something new."""
        self._lease = lease
        self._probe = probe
        self._changed = changed
        self._lock = asyncio.Lock()
        self._doubted_at = 0.0
        self._pause_s = AWAY_POLL_S
        self._retiring: set[asyncio.Task[None]] = set()
        self.server: LeasedServer | None = None
        self.lookup = Lookup(None, "not looked yet")

    async def follow(self) -> None:
        """Looks again and again; runs until cancelled."""
        while True:
            async with self._lock:
                await self._look(doubt=False)
            await asyncio.sleep(self._pause_s if self.server is None else KNOWN_POLL_S)

    async def still_answers(self, server: LeasedServer) -> bool:
        """Whether `server`, at which a request just failed, is still the one to ask, and healthy."""
        asked_at = time.monotonic()
        async with self._lock:
            if self.server is server and self._doubted_at < asked_at:  # else another request has just looked
                self._doubted_at = time.monotonic()
                await self._look(doubt=True)
        return self.server is server

    async def _look(self, doubt: bool) -> None:
        known = None if self.server is None else self.server.endpoint
        lookup = await asyncio.to_thread(look, self._lease, known)
        self._pause_s = AWAY_POLL_S
        found = lookup.endpoint
        if found is not None and (doubt or found != known):
            refusal = await self._probe(found)
            if refusal is not None:
                lookup = Lookup(None, refusal.reason)
                if refusal.answers:
                    self._pause_s = KNOWN_POLL_S
                if known is not None and found != known:
                    lookup = await self._serve_on(known, doubt) or lookup
        self._take(lookup)

    async def _serve_on(self, known: ServerEndpoint, doubt: bool) -> Lookup | None:
        """The old server, where the new one that the lease names cannot be used yet."""
        lookup = await asyncio.to_thread(look_at, known.folder)
        if lookup.endpoint != known or (doubt and await self._probe(known) is not None):
            return None
        return lookup

    def _take(self, lookup: Lookup) -> None:
        before, self.lookup = self.lookup, lookup
        if lookup.endpoint == before.endpoint and lookup.lost == before.lost:
            return
        _logger.info("%s", lookup.reason)
        if lookup.endpoint != before.endpoint:
            if self.server is not None and self.server.in_flight:
                task = asyncio.create_task(self._retire(self.server))
                self._retiring.add(task)
                task.add_done_callback(self._retiring.discard)
            self.server = None if lookup.endpoint is None else LeasedServer(lookup.endpoint)
        self._changed()

    async def _retire(self, server: LeasedServer) -> None:
        """Returns whether requests at a server that gets no more may end there.

        Not where it is dead: a node that went down does not even say so.
        """
        silent = 0
        while server.in_flight:
            silent = silent + 1 if await self._probe(server.endpoint) is not None else 0
            if silent >= SILENT_PROBES or self._lives_again(server.endpoint):
                for connection in list(server.asked):
                    connection.break_off("the server is gone")
                return
            await asyncio.sleep(KNOWN_POLL_S)

    def _lives_again(self, endpoint: ServerEndpoint) -> bool:
        """Whether a later engine run of that server answers: what was asked of the earlier is lost."""
        now = None if self.server is None else self.server.endpoint
        return (
            now is not None and now.server_id == endpoint.server_id and now.engine_run > endpoint.engine_run
        )
