"""Jobs that wait in the queue: what they wait for is said once, and those that will never start are told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from slurmeval.slurm.commands import QueuedJob
from slurmeval.slurm.reasons import is_hopeless, is_worth_saying

HOPELESS_S = 300.0
"""So long a job may wait for something that will not come: a person may be about to mend it."""


@dataclass
class Pending:
    """What the jobs of one kind wait for. `say` tells the user something."""

    what: str
    say: Callable[[str], None]
    clock: Any = time.monotonic
    _hopeless_since: dict[str, float] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)

    def look(self, job_ids: Iterable[str], queue: Mapping[str, QueuedJob]) -> dict[str, str]:
        """The jobs that have had no hope for some minutes, with squeue's reason."""
        waiting = {job_id: queue[job_id] for job_id in job_ids if job_id in queue}
        reasons = {job_id: job.reason for job_id, job in waiting.items() if job.is_pending}
        for reason in sorted(set(filter(is_worth_saying, reasons.values())) - self._said):
            self._said.add(reason)
            number = sum(other == reason for other in reasons.values())
            self.say(f"{self.what} waits in the queue: {reason} ({number} job{'s' if number > 1 else ''})")
        hopeless = {job_id: reason for job_id, reason in reasons.items() if is_hopeless(reason)}
        now = self.clock()
        self._hopeless_since = {job_id: self._hopeless_since.get(job_id, now) for job_id in hopeless}
        return {
            job_id: reason
            for job_id, reason in hopeless.items()
            if now - self._hopeless_since[job_id] >= HOPELESS_S
        }
