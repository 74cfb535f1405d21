"""A supervisor's times and tries."""

from __future__ import annotations

from dataclasses import dataclass

from slurmeval.processes import HEARTBEAT_S

MARGIN_S = 30
"""Seconds between the end of draining and the end of the job's time."""


@dataclass(frozen=True)
class Timing:
    """In seconds, but for `max_restarts`. The defaults are for real servers; tests shorten them."""

    poll_s: float = 1.0
    """Between two looks at the engine, at the leases and at the `stop` file."""
    count_s: float = 3.0
    """Between two counts of the evaluations that run, for which each lease is read."""
    heartbeat_s: float = HEARTBEAT_S
    linger_s: float = 3.0
    """How long a server without leases waits for another."""
    unhealthy_s: float = 30.0
    """How long /health may fail before the engine counts as dead."""
    backoff_s: float = 1.0
    """Before the first restart; doubled for each further one."""
    max_restarts: int = 3
    """How often the engine is started again after a crash, in one job."""
    sound_s: float = 600.0
    """An engine run that served this long forgives the restarts before it."""
    give_way_s: float = 60.0
    """How long a leased server may be idle while another waits for its slot."""
    grace_s: float = 10.0
    """Between SIGTERM and SIGKILL, with requests under way."""
    idle_grace_s: float = 2.5
    """… without."""
