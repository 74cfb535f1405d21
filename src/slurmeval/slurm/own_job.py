"""The job that this process runs in, by the variables that Slurm sets in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

JOB_ID = "SLURM_JOB_ID"


@dataclass(frozen=True)
class OwnJob:
    """A process's job."""

    job_id: str | None
    """None: it runs in none."""
    restart: int
    """How often Slurm has started the job again."""
    node: str | None
    nodes: str | None
    """In Slurm's notation."""
    rank: int
    ends_at: float | None
    """When its time ends, seconds since the epoch; None: Slurm does not say."""


def own_job(variables: Mapping[str, str] = os.environ) -> OwnJob:
    """Returns the job that a process with these variables runs in."""
    ends_at = variables.get("SLURM_JOB_END_TIME")
    return OwnJob(
        job_id=variables.get(JOB_ID),
        restart=int(variables.get("SLURM_RESTART_COUNT") or 0),
        node=variables.get("SLURMD_NODENAME"),
        nodes=variables.get("SLURM_JOB_NODELIST"),
        rank=int(variables.get("SLURM_PROCID") or 0),
        ends_at=float(ends_at) if ends_at else None,
    )
