"""Jobs of Snakemake's that cannot be submitted yet: when they are tried again, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from slurmeval.errors import ErrorClass, EvaluationFailed, NotYet

RETRY_S = 30.0
"""Between two tries to submit, while Slurm takes no further job."""

GIVE_UP_S = 86400.0
"""How long Slurm may take no job while none of the run's evaluations is in the queue."""


@dataclass
class Waiting:
    """The jobs that wait to be submitted. `say` tells the user something, once for each run of refusals."""

    say: Callable[[str], None]
    clock: Any = time.monotonic
    jobs: list[Any] = field(default_factory=list)
    _refused_since: float | None = None
    _not_before: float = 0.0
    _said: str | None = None

    @property
    def holds_back(self) -> bool:
        """Whether Slurm has just taken no further job: what it refuses one it refuses all."""
        return bool(self.clock() < self._not_before)

    def refused(self, job: Any, why: NotYet) -> EvaluationFailed | None:
        """Keeps a job that was refused for now; its failure where that has lasted too long."""
        now = self.clock()
        self._not_before = now + RETRY_S
        if self._said != str(why):
            self._said = str(why)
            self.say(f"Slurm takes no further job for now, trying again: {why}")
        self._refused_since = self._refused_since or now
        if now - self._refused_since > GIVE_UP_S:
            reason = f"Slurm has taken no further job for {GIVE_UP_S / 3600:g} h: {why}"
            return EvaluationFailed(ErrorClass.CANCELLED, reason)
        self.jobs.append(job)
        return None

    def goes_on(self) -> None:
        """Others of the run's evaluations are in the queue: there is room once they have ended."""
        self._refused_since = None

    def submitted(self) -> None:
        """Slurm has taken a job."""
        self._refused_since = self._said = None

    def due(self, is_first: Callable[[Any], bool]) -> list[Any]:
        """Takes out what is to be tried now, those that are `is_first` before the others."""
        if self.holds_back:
            return []
        jobs, self.jobs = self.jobs, []
        return sorted(jobs, key=lambda job: not is_first(job))
