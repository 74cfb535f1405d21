"""What accounting says of a run's jobs: which there were, and asking for all of them at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from slurmeval.processes import age_s
from slurmeval.results.records import time_of
from slurmeval.servers.folder import ServerFolder
from slurmeval.slurm import commands
from slurmeval.slurm.commands import JobLife, SlurmAway
from slurmeval.state.evaluation import EvaluationSubmission
from slurmeval.state.records import read, read_lines
from slurmeval.state.server import ServerJob, ServerState

if TYPE_CHECKING:
    from slurmeval.paths import Paths

SETTLE_S = 30.0
"""How long accounting may take to learn of the end of a job."""

RECENT_S = 600.0
"""After this long accounting knows what it will ever know."""

CLOCKS = timedelta(hours=1)
"""So far Slurm's time of a submission and ours may differ."""

Ask = Callable[[Sequence[str]], Mapping[str, list[JobLife]]]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AccountedJob:
    """A job of Slurm, from our own files."""

    job_id: str
    submitted: datetime | None
    over: bool
    """Whether it has just ended, going by our own files: accounting is to say so too."""

    def own(self, lives: Iterable[JobLife]) -> list[JobLife]:
        """The lives of this job. Slurm counts from 1 again after years, and other clusters count too: a job
        of this number that was submitted at another time is a stranger's."""
        if self.submitted is None:
            return list(lives)
        own = [life for life in lives if life.submitted >= self.submitted - CLOCKS]
        return own if own and min(life.submitted for life in own) <= self.submitted + CLOCKS else []


def server_folders(paths: Paths, model: str) -> list[ServerFolder]:
    """The folders of a model's servers, replicas' too, in order."""
    replicas = [paths.servers_of(model), *sorted(paths.servers.glob(f"{model}@*"))]
    return [ServerFolder(path) for replica in replicas for path in sorted(replica.glob("[0-9]*"))]


def job_of_server(folder: ServerFolder) -> AccountedJob | None:
    """None where it has no job of Slurm's."""
    job, state = read(folder.job, ServerJob), read(folder.state, ServerState)
    if job is None or job.cluster != "slurm":
        return None
    ended = (state is not None and state.status.is_final) or folder.gone.exists()
    return AccountedJob(job.job_id, time_of(job.submitted_at), ended and _recent(folder.state))


def jobs_of_evaluation(paths: Paths, model: str, benchmark: str) -> list[AccountedJob]:
    """All that were submitted for it, oldest first; none on one machine."""
    over = _recent(paths.evaluation(model, benchmark)) or _recent(paths.failure(model, benchmark))
    submitted = read_lines(paths.evaluation_jobs(model, benchmark), EvaluationSubmission)
    return [AccountedJob(each.job_id, time_of(each.submitted_at), over) for each in submitted]


def _recent(path: Path) -> bool:
    try:
        return age_s(path) < RECENT_S
    except FileNotFoundError:
        return False


def lives(
    jobs: Sequence[AccountedJob], ask: Ask = commands.lives, settle_s: float = SETTLE_S
) -> dict[str, list[JobLife]]:
    """The lives of the jobs that accounting knows; empty where it is away. Waits a little for the end of
    those that are over: accounting lags behind."""
    if not jobs:
        return {}
    deadline = time.monotonic() + settle_s
    by_id = {job.job_id: job for job in jobs}
    while True:
        try:
            answer = ask(list(by_id))
        except SlurmAway as error:
            if not error.for_good and time.monotonic() < deadline:
                time.sleep(min(1.0, settle_s / 5))
                continue
            _logger.warning("no accounting, so no job's state and times are in the results: %s", error)
            return {}
        found = {name: own for name, job in by_id.items() if (own := job.own(answer.get(name, ())))}
        open_jobs = [name for name, job in by_id.items() if job.over and not _ended(found.get(name, []))]
        if not open_jobs or time.monotonic() >= deadline:
            return found
        time.sleep(min(1.0, settle_s / 5))


def _ended(own: list[JobLife]) -> bool:
    """Whether the job is over: a life that was requeued is followed by another."""
    return bool(own) and own[-1].is_over and own[-1].state != "REQUEUED"


def queued_s(life: JobLife) -> float | None:
    """From submission or requeue to start, or to the end where it never started; None: it still waits."""
    until = life.started or life.ended
    return None if until is None else max(0.0, (until - life.submitted).total_seconds())


def ended_at(life: JobLife) -> datetime:
    """Where its time ends: by what was counted, so that times add up (a job may have been suspended)."""
    return (life.started or life.submitted) + timedelta(seconds=life.elapsed_s)


def explained(life: JobLife) -> str:
    """Slurm's state with what it adds to it."""
    return f"{life.state} ({life.reason})" if life.reason else life.state
