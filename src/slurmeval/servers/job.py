"""The batch job that a supervisor runs in, as the job's environment and the queue tell."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from slurmeval.slurm import commands
from slurmeval.slurm.commands import SlurmAway
from slurmeval.slurm.own_job import own_job
from slurmeval.state.server_spec import ServerSpec

ANSWER_S = 3.0
"""Longest wait for the queue's answer after SIGTERM: SIGKILL follows within 5 to 30 s."""


class SigtermCause(Enum):
    """What SIGTERM means for a job."""

    STOPPED = "its job was cancelled"
    PREEMPTED = "its job makes place for another"
    """Slurm leaves it running for a moment, and may or may not put it back into the queue."""
    REQUEUED = "its job is put back into the queue"
    """Slurm has done so already."""


@dataclass(frozen=True)
class BatchJob:
    """The job, or None and zeros where there is no batch system."""

    job_id: str | None
    restart: int
    """How often Slurm has started the job again."""
    node: str
    """All nodes, in Slurm's notation, where there are several."""
    rank: int
    """0: this process supervises; others run further parts of the engine."""
    ends_at: float
    """When its time ends, seconds since the epoch."""

    @classmethod
    def of(cls, spec: ServerSpec, environment: Mapping[str, str] = os.environ) -> BatchJob:
        """The job that this process runs in.

        Variables of Slurm count only for a server that Slurm was asked for: any other may run within
        someone's allocation.
        """
        end = time.time() + spec.time_limit_min * 60
        if not spec.is_on_slurm:
            return cls(environment.get("SUBMITIT_LOCAL_JOB_ID"), 0, socket.gethostname(), 0, end)
        job = own_job(environment)
        node = job.node or socket.gethostname()
        if spec.nodes == 1:
            return cls(job.job_id, job.restart, node, 0, job.ends_at or end)
        return cls(job.job_id, job.restart, job.nodes or node, job.rank, job.ends_at or end)

    def sigterm_cause(self) -> tuple[SigtermCause, float]:
        """Asks the queue what SIGTERM meant, and how many seconds are left. No answer: the job is stopped."""
        if self.job_id is None:
            return SigtermCause.STOPPED, 0.0
        answer: queue.Queue[commands.QueuedJob | None] = queue.Queue()
        threading.Thread(target=self._ask, args=(answer,), daemon=True).start()
        try:
            job = answer.get(timeout=ANSWER_S)
        except queue.Empty:
            job = None
        if job is None:
            return SigtermCause.STOPPED, 0.0
        if job.restarts is not None and job.restarts > self.restart:
            return SigtermCause.REQUEUED, 0.0
        if job.runs:
            return SigtermCause.PREEMPTED, job.end.timestamp() - time.time() if job.end is not None else 0.0
        return SigtermCause.STOPPED, 0.0

    def _ask(self, answer: queue.Queue[commands.QueuedJob | None]) -> None:
        try:
            jobs = commands.queue()
        except SlurmAway:
            jobs = []
        answer.put(next((job for job in jobs if job.job_id == self.job_id), None))
