"""What a server did: its engine's figures, and the busy and idle seconds of each engine run."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from slurmeval.engines.base import Figures
from slurmeval.servers.job import BatchJob
from slurmeval.state.engine_run import EngineRunRecord
from slurmeval.state.records import append

MAX_GAP_S = 10.0
"""Longest time between two samples that is counted: a suspended machine is neither busy nor idle."""


def timestamp(seconds: float) -> str:
    """ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


@dataclass
class EngineRun:
    """One engine run within a server, from start to exit. Times are seconds since the epoch."""

    number: int
    started: float
    ready: float | None = None
    parts: dict[str, float] = field(default_factory=dict)
    """Seconds of the start by what they went into, as EngineRunRecord has them."""
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
            answered = (figures.requests or 0) - (self.figures.requests or 0)
            if figures.requests_running > 0 or made > 0 or answered > 0:
                self.busy_s += gap_s
            else:
                self.idle_s += gap_s
            self.tokens_per_s = round(made / gap_s, 1) if gap_s > 0 else 0.0
        self._sampled = now
        self.figures = figures

    def so_far(self, now: float, job: BatchJob) -> EngineRunRecord:
        """Returns what there is to tell of an engine run under way in `job`.

        It stands in `state.json`, should nobody live to tell of its end.
        """
        return EngineRunRecord(
            engine_run=self.number,
            started_at=timestamp(self.started),
            ready_at=None if self.ready is None else timestamp(self.ready),
            seen_at=timestamp(now),
            starting_s=round((now if self.ready is None else self.ready) - self.started, 3),
            weights_s=self.parts.get("weights_s"),
            compile_s=self.parts.get("compile_s"),
            first_answer_s=self.parts.get("first_answer_s"),
            busy_s=round(self.busy_s, 3),
            idle_s=round(self.idle_s, 3),
            requests=self.figures.requests,
            generated_tokens=self.figures.generated_tokens,
            prompt_tokens=self.figures.prompt_tokens,
            job_id=job.job_id,
            restart=job.restart,
            node=job.node,
        )

    def ended(self, reason: str, now: float, job: BatchJob) -> EngineRunRecord:
        """Returns the record of an engine run that has ended now."""
        told = self.so_far(now, job)
        return replace(told, ended_at=told.seen_at, seen_at=None, exit_reason=reason)


CUT_OFF = "cut off: its supervisor was killed"
"""Why an engine run ended that nobody saw end."""


def cut_off(so_far: EngineRunRecord) -> EngineRunRecord:
    """Returns the record of an engine run that nobody saw end: it ended later than it was told of last."""
    return replace(so_far, exit_reason=CUT_OFF)


def append_engine_run(path: Path, engine_run: EngineRunRecord) -> None:
    """Adds a line to `engine_runs.jsonl`, on disk when this returns. One that was cut short is dropped."""
    with contextlib.suppress(FileNotFoundError):
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
    append(path, engine_run)
