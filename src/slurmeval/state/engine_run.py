"""What a supervisor tells of one run of its engine.

It is `under_way` in `state.json` first, then a line of `engine_runs.jsonl`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from slurmeval.state.records import read_lines


@dataclass(frozen=True)
class EngineRunRecord:
    """One run of an engine, from start to exit. Times are ISO 8601 in UTC."""

    OLDER_NAMES: ClassVar[dict[str, str]] = {"life": "engine_run"}

    engine_run: int
    """Its number; a job that was requeued counts on."""
    started_at: str | None = None
    ready_at: str | None = None
    seen_at: str | None = None
    """When it was told of last; None once it has ended."""
    ended_at: str | None = None
    """None while it is under way, and where nobody saw its end."""
    exit_reason: str | None = None
    starting_s: float = 0.0
    weights_s: float | None = None
    """Of `starting_s`, as the engine's log says; None: it does not."""
    compile_s: float | None = None
    first_answer_s: float | None = None
    """Of `starting_s`: from when the engine listens."""
    busy_s: float = 0.0
    idle_s: float = 0.0
    requests: int | None = None
    generated_tokens: int = 0
    prompt_tokens: int | None = None
    job_id: str | None = None
    restart: int | None = None
    """How often its job had been started again; so a job's runs in accounting are told apart."""
    node: str | None = None


def read_engine_runs(path: Path) -> list[EngineRunRecord]:
    """Returns the engine runs in a server's `engine_runs.jsonl`, oldest first.

    Those of an earlier version, which called the file `lives.jsonl`, come before.
    """
    return [
        *read_lines(path.with_name("lives.jsonl"), EngineRunRecord),
        *read_lines(path, EngineRunRecord),
    ]
