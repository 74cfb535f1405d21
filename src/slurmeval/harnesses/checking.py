"""Programs that a model wrote, run and checked by harnesses that are slurmeval's own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from slurmeval.containment import program
from slurmeval.errors import ErrorClass, EvaluationFailed


class Checking:
    """Runs programs contained, on at most half of the processors at once."""

    def __init__(self, order: dict[str, Any]) -> None:
        """`order` has the `interpreter` that runs them."""
        self._interpreter = Path(order["interpreter"])
        self._room = asyncio.Semaphore(max(1, (os.cpu_count() or 1) // 2))

    async def outcome(self, source: str, timeout_s: float) -> program.Outcome:
        """Returns how a program ended."""
        async with self._room:
            limits = program.Limits(timeout_s=timeout_s)
            return await asyncio.to_thread(program.run, source, limits, self._interpreter)


async def checking(order: dict[str, Any]) -> Checking:
    """Returns what runs programs.

    Raises:
        EvaluationFailed: Nothing can be contained here (harness_error).
    """
    lacking = await asyncio.to_thread(program.unavailable)
    if lacking is not None:
        raise EvaluationFailed(ErrorClass.HARNESS_ERROR, lacking)
    return Checking(order)
