"""Which server a request goes to: one of the model's replicas, or none for now, and then it waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from slurmeval.errors import ServerFailed
from slurmeval.gateway.finder import LeasedServer, Probe, Replica

SUSPECT_AFTER = 3
"""Failures in a row after which a server gets no request while others are better."""

REST_S = 2.0
"""So long; then one request tries it. Doubles with each further failure, up to REST_MAX_S."""
REST_MAX_S = 60.0


class Replicas:
    """Follows all leases. Requests go to the server with the fewest under way."""

    def __init__(self, leases: Sequence[Path], hold_s: float, probe: Probe) -> None:
        self._hold_s = hold_s
        self._replicas = [Replica(lease, probe, self._look_around) for lease in leases]
        self._changed = asyncio.Event()
        self._seen = False
        self._away_since: float | None = None
        self._turn = 0
        self.holding = 0
        """Requests that wait for a server."""

    @property
    def known(self) -> bool:
        """Whether any server answers."""
        return any(replica.server is not None for replica in self._replicas)

    @property
    def under_way(self) -> int:
        """Requests that the servers work on."""
        return sum(replica.server.in_flight for replica in self._replicas if replica.server is not None)

    @property
    def running(self) -> int:
        """Evaluations that run on these servers, as far as they say."""
        return max(replica.lookup.running for replica in self._replicas)

    async def follow(self) -> None:
        """Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            for replica in self._replicas:
                group.create_task(replica.follow())

    async def take(self, avoid: Collection[LeasedServer]) -> LeasedServer:
        """The server to ask, one of `avoid` only where there is no other; waits until there is one.

        Raises ServerFailed when all are lost for good, or were away for longer than `hold_s`. Before
        the first has answered there is no such bound: it may load for long, and the evaluation
        watches it.
        """
        return self._choose(avoid) or await self._hold(avoid)

    def others(self, avoid: Collection[LeasedServer]) -> bool:
        """Whether a server answers that is none of `avoid`."""
        return any(replica.server is not None and replica.server not in avoid for replica in self._replicas)

    async def still_answers(self, server: LeasedServer) -> bool:
        """Whether `server`, at which a request just failed, is still in use and healthy."""
        for replica in self._replicas:
            if replica.server is server:
                return await replica.still_answers(server)
        return False

    @staticmethod
    def note(server: LeasedServer, failed: bool) -> None:
        """Takes in how a request ended."""
        if not failed:
            server.failures, server.rest_until = 0, 0.0
            return
        server.failures += 1
        if server.failures >= SUSPECT_AFTER:
            rest_s = min(REST_S * 2 ** (server.failures - SUSPECT_AFTER), REST_MAX_S)
            server.rest_until = time.monotonic() + rest_s

    def _choose(self, avoid: Collection[LeasedServer]) -> LeasedServer | None:
        servers = [replica.server for replica in self._replicas if replica.server is not None]
        if len(servers) <= 1:
            return servers[0] if servers else None
        servers = [server for server in servers if server not in avoid] or servers
        now = time.monotonic()
        servers = [server for server in servers if server.rest_until <= now] or servers
        self._turn += 1
        turn = self._turn % len(servers)
        chosen = min(servers[turn:] + servers[:turn], key=lambda server: server.in_flight)
        if chosen.failures >= SUSPECT_AFTER:  # this request tries it; the next wait for what comes of it
            chosen.rest_until = now + REST_MAX_S
        return chosen

    async def _hold(self, avoid: Collection[LeasedServer]) -> LeasedServer:
        self.holding += 1
        try:
            while True:
                if (server := self._choose(avoid)) is not None:
                    return server
                if all(replica.lookup.lost for replica in self._replicas):
                    raise ServerFailed(self.away())
                changed = self._changed
                until = None if self._away_since is None else self._away_since + self._hold_s
                async with asyncio.timeout_at(until):
                    await changed.wait()
        except TimeoutError:
            raise ServerFailed(f"no server for {self._hold_s:g} s: {self.away()}") from None
        finally:
            self.holding -= 1

    def away(self) -> str:
        """Why no server is asked, one sentence for each replica."""
        return "; ".join(dict.fromkeys(replica.lookup.reason for replica in self._replicas))

    def _look_around(self) -> None:
        """Wakes those who wait, to see for themselves."""
        if self.known:
            self._away_since = None
            self._seen = True
        elif self._seen and self._away_since is None:
            self._away_since = asyncio.get_running_loop().time()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
