"""Which process has something: a run, an evaluation, a server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Owner:
    """A process, told apart from a later one with the same number; and what it says of itself."""

    host: str
    pid: int
    started: int | None = None
    """The kernel's start time, in clock ticks since boot."""
    token: str | None = None
    """Of the run that it belongs to."""
    since: str | None = None
    """When it began, ISO UTC."""
    job_id: str | None = None
    """The Slurm job that it runs in."""

    def is_same_process(self, other: Owner) -> bool:
        """Returns whether both name one process."""
        return (self.host, self.pid, self.started) == (other.host, other.pid, other.started)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"
