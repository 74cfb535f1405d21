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
from slurmeval.slurm.commands import JobRun, SlurmAway
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

Ask = Callable[[Sequence[str]], Mapping[str, list[JobRun]]]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AccountedJob:
    """A job of Slurm, from our own files."""

    job_id: str
    submitted: datetime | None
    over: bool
    """Whether it has just ended, going by our own files: accounting is to say so too."""

    def own(self, job_runs: Iterable[JobRun]) -> list[JobRun]:
        """The runs of this job.

        Slurm counts from 1 again after years, and other clusters count too: a job of this number that
        was submitted at another time is a stranger's.
        """
        if self.submitted is None:
            return list(job_runs)
        own = [job_run for job_run in job_runs if job_run.submitted >= self.submitted - CLOCKS]
        return own if own and min(job_run.submitted for job_run in own) <= self.submitted + CLOCKS else []


def server_folders(paths: Paths, model: str) -> list[ServerFolder]:
    """The folders of a model's servers, replicas' too, in order."""
    replicas = [paths.servers_of(model), *sorted(paths.servers.glob(f"{model}@*"))]
    return [ServerFolder(path) for replica in replicas for path in sorted(replica.glob("[0-9]*"))]


def job_of_server(folder: ServerFolder) -> AccountedJob | None:
    """None where it has no job of Slurm's."""
    job, state = read(folder.job, ServerJob), read(folder.state, ServerState)
    if job is None or not job.is_on_slurm:
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


def accounted(
    jobs: Sequence[AccountedJob], ask: Ask = commands.job_runs, settle_s: float = SETTLE_S
) -> dict[str, list[JobRun]]:
    """The runs of the jobs that accounting knows; empty where it is away.

    Waits a little for the end of those that are over: accounting lags behind.
    """
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


def _ended(own: list[JobRun]) -> bool:
    """Whether the job is over: a job run that was requeued is followed by another."""
    return bool(own) and own[-1].is_last


def queued_s(job_run: JobRun) -> float | None:
    """From submission or requeue to start, or to the end where it never started; None: it still waits."""
    until = job_run.started or job_run.ended
    return None if until is None else max(0.0, (until - job_run.submitted).total_seconds())


def ended_at(job_run: JobRun) -> datetime:
    """Where its time ends: by what was counted, so that times add up (a job may have been suspended)."""
    return (job_run.started or job_run.submitted) + timedelta(seconds=job_run.elapsed_s)
