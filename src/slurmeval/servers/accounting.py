"""What a server did: its engine's figures, and the busy and idle seconds of each life."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slurmeval.engines.base import Figures
from slurmeval.files import lines

MAX_GAP_S = 10.0
"""Longest time between two samples that is counted: a suspended machine is neither busy nor idle."""


def timestamp(seconds: float) -> str:
    """ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


@dataclass
class EngineRun:
    """One life of an engine within a server, from start to exit. Times are seconds since the epoch."""

    number: int
    started: float
    ready: float | None = None
    busy_s: float = 0.0
    idle_s: float = 0.0
    figures: Figures = field(default_factory=Figures)
    tokens_per_s: float = 0.0
    """Tokens generated per second between the last two samples."""
    _sampled: float | None = None

    def sample(self, figures: Figures, now: float) -> None:
        """Takes in the engine's figures.

        The time since the last sample was busy if a request is running now, or has ended or made tokens
        since.
        """
        if self._sampled is not None:
            gap_s = max(0.0, min(now - self._sampled, MAX_GAP_S))
            made = figures.generated_tokens - self.figures.generated_tokens
            if figures.requests_running > 0 or made > 0 or figures.requests > self.figures.requests:
                self.busy_s += gap_s
            else:
                self.idle_s += gap_s
            self.tokens_per_s = round(made / gap_s, 1) if gap_s > 0 else 0.0
        self._sampled = now
        self.figures = figures

    def so_far(self, now: float) -> dict[str, Any]:
        """Returns what there is to tell of an engine run under way.

        It stands in `state.json`, should nobody live to tell of its end.
        """
        return {
            "life": self.number,
            "started_at": timestamp(self.started),
            "ready_at": None if self.ready is None else timestamp(self.ready),
            "seen_at": timestamp(now),
            "starting_s": round((now if self.ready is None else self.ready) - self.started, 3),
            "busy_s": round(self.busy_s, 3),
            "idle_s": round(self.idle_s, 3),
            "requests": self.figures.requests,
            "generated_tokens": self.figures.generated_tokens,
            "prompt_tokens": self.figures.prompt_tokens,
        }

    def ended(self, reason: str, now: float) -> dict[str, Any]:
        """The life's line in `lives.jsonl`."""
        line = self.so_far(now)
        return line | {"ended_at": line.pop("seen_at"), "exit_reason": reason}


CUT_OFF = "cut off: its supervisor was killed"
"""Why a life ended that nobody saw end."""


def cut_off(so_far: dict[str, Any]) -> dict[str, Any]:
    """The line of a life that nobody saw end, out of what was told of it last. It ended later than that."""
    return so_far | {"ended_at": None, "exit_reason": CUT_OFF}


def append_life(path: Path, line: dict[str, Any]) -> None:
    """Adds a line to `lives.jsonl`, on disk when this returns. A line that a crash cut short is dropped."""
    with contextlib.suppress(FileNotFoundError):
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
    with path.open("ab") as stream:
        stream.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_lives(path: Path) -> list[dict[str, Any]]:
    """The lives in `lives.jsonl`, oldest first; a last line that was cut short is left out."""
    try:
        return [json.loads(line) for line in lines(path) if line.endswith(b"\n")]
    except FileNotFoundError:
        return []
