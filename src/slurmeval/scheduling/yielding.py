"""Servers that give way to others.

They answer, and all their evaluations wait in the queue for a limit on the user's jobs, which the servers
themselves fill.

The last one in the run's order gives its place to the others. Its evaluations come back once one of the jobs
has ended that stood in their way; where there is none, they can never run beside their server, and fail.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.servers.folder import ServerFolder
from slurmeval.slurm.commands import QueuedJob
from slurmeval.slurm.reasons import is_limit, is_of_group, may_be_behind_a_limit
from slurmeval.state.records import read
from slurmeval.state.run_document import RunDocument
from slurmeval.state.server import ServerJob, ServerState, ServerStatus

IDLE_S = 600.0
"""So long a server may stand idle while all its evaluations wait for a limit."""

REST_S = 3600.0
"""So long it rests where the limit is of a group, whose jobs are not all to be seen."""

REMEDY = (
    "server_jobs.max_at_once (config) keeps servers from taking the places of evaluations; "
    "evaluations.where: server (site file) needs none"
)


@dataclass
class GivingWay:
    """Which models' servers stand in the way, or have given way. `say` tells the user something."""

    run: RunDocument
    evaluation_name: str
    """The name of evaluations' jobs."""
    say: Callable[[str], None]
    clock: Any = time.monotonic
    _idle_since: dict[str, float] = field(default_factory=dict)
    _resting: dict[str, tuple[frozenset[str], float]] = field(default_factory=dict)
    """By model: the jobs of which one must end first, and until when it rests at the longest."""

    hopeless: dict[str, EvaluationFailed] = field(default_factory=dict)
    """Models whose evaluations cannot run beside their server, and why."""

    def rests(self, model: str) -> bool:
        """Whether the model's server has given way: nothing of it is submitted."""
        return model in self._resting

    def look(
        self, jobs: Mapping[str, Iterable[str]], queue: Mapping[str, QueuedJob]
    ) -> tuple[str, EvaluationFailed | None] | None:
        """Returns the model that gives way now, if any, and its evaluations' failure where that helps nobody.

        `jobs`: of each model, the jobs of all its evaluations that are in the queue.
        """
        now = self.clock()
        for model, (others, until) in list(self._resting.items()):
            if now >= until or not others <= queue.keys():
                del self._resting[model]
        limits = {model: self._limit(model, jobs[model], queue) for model in jobs if self._has_job(model)}
        blocked = {model: reason for model, reason in limits.items() if reason}
        self._idle_since = {model: self._idle_since.get(model, now) for model in blocked}
        late = [model for model in blocked if now - self._idle_since[model] >= IDLE_S]
        if not late:
            return None
        model = max(late, key=self.run.order.index)
        self._idle_since.clear()
        return model, self._give_way(model, blocked[model], queue)

    def _has_job(self, model: str) -> bool:
        """Whether its server is a job: what passes requests on to another server stands in nobody's way."""
        return self.run.models[model].serving.external is None

    def _limit(self, model: str, job_ids: Iterable[str], queue: Mapping[str, QueuedJob]) -> str | None:
        """The limit that all evaluations of a model wait for though its server answers."""
        waiting = [queue.get(job_id) for job_id in job_ids]
        if not waiting or not any(_answers(server) for server in self._servers(model)):
            return None
        reasons = [job.reason for job in waiting if job is not None and job.is_pending]
        if len(reasons) < len(waiting) or not all(map(may_be_behind_a_limit, reasons)):
            return None
        return next((reason for reason in reasons if is_limit(reason)), None)

    def _give_way(self, model: str, reason: str, queue: Mapping[str, QueuedJob]) -> EvaluationFailed | None:
        jobs = (read(server.job, ServerJob) for server in self._servers(model))
        own = {job.job_id for job in jobs if job is not None}
        others = frozenset(
            job.job_id
            for job in queue.values()
            if job.runs and job.job_id not in own and job.name != self.evaluation_name
        )
        if not others and not is_of_group(reason):
            why = f"its job cannot start while that of {model}'s server runs ({reason}): {REMEDY}"
            self.hopeless[model] = EvaluationFailed(ErrorClass.CANCELLED, why)
            return self.hopeless[model]
        self._resting[model] = others, self.clock() + (REST_S if is_of_group(reason) else float("inf"))
        self.say(f"the server of {model} gives way: its evaluations wait for {reason}; {REMEDY}")
        return None

    def _servers(self, model: str) -> list[ServerFolder]:
        """The newest server of each replica."""
        first = Path(self.run.models[model].serving.servers)
        replicas = range(2, self.run.models[model].replicas + 1)
        places = [first, *(first.with_name(f"{first.name}@{replica}") for replica in replicas)]
        newest = (max(place.glob("[0-9]" * 4), default=None) for place in places)
        return [ServerFolder(folder) for folder in newest if folder is not None]


def _answers(server: ServerFolder) -> bool:
    state = read(server.state, ServerState)
    return state is not None and state.status is ServerStatus.READY and not server.closed.exists()
