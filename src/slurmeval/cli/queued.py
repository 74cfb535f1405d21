"""What is in Slurm's queue, for commands that look at a run from outside."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from slurmeval.state.evaluation import EvaluationSubmission
from slurmeval.state.records import read, read_lines
from slurmeval.state.server import ServerJob

if TYPE_CHECKING:
    from slurmeval.paths import Paths
    from slurmeval.slurm.commands import QueuedJob

SQUEUE_TIMEOUT_S = 10.0
"""Longest wait for squeue: what it adds is no more than a reason."""

CACHE_LIFETIME_S = 10.0
"""Time for which an answer serves commands that look again and again."""

_last: tuple[float, dict[str, QueuedJob]] | None = None


def queued(paths: Paths) -> Mapping[str, QueuedJob]:
    """Returns the user's jobs by id; none where nothing here went to Slurm, or Slurm does not answer."""
    from slurmeval.slurm import commands

    global _last
    if not _is_on_slurm(paths) or not commands.is_here("squeue"):
        return {}
    if _last is None or time.monotonic() - _last[0] > CACHE_LIFETIME_S:
        try:
            jobs = {job.job_id: job for job in commands.queue(timeout_s=SQUEUE_TIMEOUT_S)}
        except commands.SlurmAway:
            jobs = {}
        _last = time.monotonic(), jobs
    return _last[1]


def why_it_waits(paths: Paths, model: str, benchmark: str, jobs: Mapping[str, QueuedJob]) -> str | None:
    """Returns squeue's reason why the job of an evaluation has not begun; None: the cluster is just busy."""
    from slurmeval.slurm.reasons import is_worth_saying

    if not jobs:
        return None
    try:
        submitted = read_lines(paths.evaluation_jobs(model, benchmark), EvaluationSubmission)
    except OSError:
        return None
    job = jobs.get(submitted[-1].job_id) if submitted else None
    return job.reason if job is not None and job.waits and is_worth_saying(job.reason) else None


def _is_on_slurm(paths: Paths) -> bool:
    """Returns whether any server of the project was a job of Slurm."""
    for file in paths.servers.glob("*/*/job.json"):
        with contextlib.suppress(OSError):
            job = read(file, ServerJob)
            if job is not None and job.is_on_slurm:
                return True
    return False
