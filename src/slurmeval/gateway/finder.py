"""Where the server is: lease -> server folder -> endpoint and state. Read again while it is away."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurmeval.errors import ServerFailed

AWAY_POLL_S = 0.25
"""Seconds between two looks for a server that is away."""

KNOWN_POLL_S = 2.0
"""Seconds between two looks at a server that answers: it may announce that it drains, or move."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Endpoint:
    """One life of one server."""

    url: str
    api_key: str
    server_id: str
    life: int

    def __repr__(self) -> str:
        return f"Endpoint({self.url}, server {self.server_id}, life {self.life})"


@dataclass(frozen=True)
class Sight:
    """What one look found: an endpoint, or why there is none (for now, or for good)."""

    endpoint: Endpoint | None
    reason: str
    lost: bool = False


def look(lease_path: Path) -> Sight:
    """Reads the files. Whatever is missing or half-written means: away for now."""
    try:
        lease = _read(lease_path)
        if lease.get("released"):
            return Sight(None, f"the lease {lease_path} is released")
        folder = Path(lease["server"])
        server_id = f"{folder.parent.name}/{folder.name}"
        state = _read(folder / "state.json")
        status = state.get("status")
        if status == "failed":
            return Sight(None, f"server {server_id}: {state.get('reason') or 'it has failed'}", lost=True)
        if status in ("draining", "restarting", "stopped"):  # the evaluation leases another, or ends
            return Sight(None, f"server {server_id} is {status}")
        endpoint = _read(folder / "endpoint.json")
        found = Endpoint(
            str(endpoint["url"]).rstrip("/"), str(endpoint["api_key"]), server_id, int(endpoint["life"])
        )
        return Sight(found, f"server {server_id} answers")
    except FileNotFoundError as error:
        return Sight(None, f"there is no {error.filename} yet")
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Sight(None, f"the server's files cannot be read now: {error}")


def _read(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise ValueError(f"{path}: no JSON object")
    return value


class Finder:
    """Follows the server. `endpoint` waits while it is away; `still_answers` is asked after a failure."""

    def __init__(self, lease: Path, hold_s: float, probe: Callable[[Endpoint], Awaitable[bool]]) -> None:
        """`probe` asks an endpoint whether it is healthy."""
        self._lease = lease
        self._hold_s = hold_s
        self._probe = probe
        self._known: Endpoint | None = None
        self._sight = Sight(None, "not looked yet")
        self._settled = asyncio.Event()
        self._lock = asyncio.Lock()
        self.holding = 0

    @property
    def known(self) -> Endpoint | None:
        return self._known

    async def endpoint(self) -> Endpoint:
        """The endpoint, as soon as there is one. Raises ServerFailed when the server is lost for good, or
        away for longer than `hold_s`."""
        if self._known is not None:
            return self._known
        self.holding += 1
        try:
            async with asyncio.timeout(self._hold_s):
                while True:
                    await self._settled.wait()
                    if self._known is not None:
                        return self._known
                    if self._sight.lost:
                        raise ServerFailed(self._sight.reason)
        except TimeoutError:
            reason = f"no server for {self._hold_s:g} s: {self._sight.reason}"
            raise ServerFailed(reason) from None
        finally:
            self.holding -= 1

    async def still_answers(self, endpoint: Endpoint) -> bool:
        """Whether `endpoint`, at which a request just failed, is still the server's and healthy."""
        async with self._lock:
            if self._known == endpoint:
                await self._look(doubt=True)
        return self._known == endpoint

    async def follow(self) -> None:
        """Looks again and again; runs until cancelled."""
        while True:
            async with self._lock:
                await self._look(doubt=False)
            await asyncio.sleep(AWAY_POLL_S if self._known is None else KNOWN_POLL_S)

    async def _look(self, doubt: bool) -> None:
        sight = await asyncio.to_thread(look, self._lease)
        known = sight.endpoint
        if known is not None and (doubt or known != self._known) and not await self._probe(known):
            sight, known = Sight(None, f"server {known.server_id} does not answer at {known.url}"), None
        if known != self._known or sight.lost != self._sight.lost:
            _logger.info("%s", sight.reason)
        self._sight, self._known = sight, known
        if known is not None or sight.lost:
            self._settled.set()
        else:
            self._settled.clear()
