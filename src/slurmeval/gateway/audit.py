"""Asking a share of the requests once more, to see whether the server answers alike.

The harness never sees the second answer. It is logged in a folder of its own, in the form of the request log
and under the first one's `request_id`: what it has is never replayed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from pathlib import Path

from slurmeval.gateway.log import encode_exchange
from slurmeval.gateway.places import Places
from slurmeval.gateway.upstream import Answer, Call, Upstream, described
from slurmeval.gateway.writer import LogFailed, LogWriter

FOLDER = "audit"
"""Within the log's folder."""
GRACE_S = 2.0
"""How long second answers are waited for when the harness has ended."""
_logger = logging.getLogger(__name__)


class Audit:
    """Asks again in the background; a second request takes its turn at the server like any other."""

    def __init__(self, share: float, log: Path, upstream: Upstream, slots: Places) -> None:
        """`share`: of the requests, 0 to 1; `log`: the folder of the request log. Raises LogFailed."""
        self._share = share
        self._upstream = upstream
        self._slots = slots
        (log / FOLDER).mkdir(parents=True, exist_ok=True)
        self._log = LogWriter(log / FOLDER)
        self._tasks: set[asyncio.Task[None]] = set()

    def chosen(self, key: bytes) -> bool:
        """Returns whether a request is asked again: by its key, so that every try chooses the same."""
        return int.from_bytes(key[:8], "big") < self._share * 2**64

    def again(self, request_id: str, call: Call, key: bytes, is_json: bool) -> None:
        """Asks once more what was answered, and logs it."""
        task = asyncio.create_task(
            self._ask(request_id, replace(call, arrived=time.monotonic(), audits=True), key, is_json)
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, request_id: str, call: Call, key: bytes, is_json: bool) -> None:
        started_at = time.time()
        async with self._slots:
            answer = await self._upstream.ask(call, _nowhere)
        if not _whole(answer):
            return
        meta = described(request_id, call, key, started_at, answer)
        try:
            self._log.write(encode_exchange(meta, call.body, is_json, answer.body, answer.facts.is_json))
        except LogFailed as error:
            _logger.warning("%s", error)

    async def stop(self) -> None:
        """Waits a moment for what is still to be answered, gives up the rest, and closes the log."""
        waiting = set(self._tasks)
        if waiting:
            _, waiting = await asyncio.wait(waiting, timeout=GRACE_S)
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting)
        self._log.close()


def _whole(answer: Answer) -> bool:
    return answer.status == 200 and answer.error is None and answer.facts.withheld is None


async def _nowhere(content_type: str, data: bytes) -> None:
    """Takes the pieces of a stream; the answer has them too."""
