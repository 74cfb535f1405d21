"""Servers that say nothing and that nobody leases.

A frozen supervisor, or one on a hung file system, would hold its GPUs until its job's time is over.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurmeval.paths import Paths
from slurmeval.servers import leases
from slurmeval.servers.folder import ServerFolder
from slurmeval.slurm import commands
from slurmeval.slurm.commands import QueuedJob
from slurmeval.slurm.states import CANCELLED
from slurmeval.state.records import read, write
from slurmeval.state.server import Gone, ServerJob

SILENT_S = 180.0
"""So long a server that nobody leases may say nothing."""


@dataclass
class SilentServers:
    """Watches the heartbeats of a project's servers that run."""

    paths: Paths
    silent_s: float = SILENT_S
    clock: Any = time.monotonic
    _heartbeats: dict[Path, tuple[int, float]] = field(default_factory=dict)
    """The time stamp of a server's last heartbeat, and when it was first seen here."""

    def look(self, queue: Mapping[str, QueuedJob]) -> None:
        """Cancels the jobs of those that are silent and not leased: scancel needs no supervisor."""
        for job_id, of_job in servers_by_job(self.paths).items():
            if job_id not in queue or not queue[job_id].runs:
                continue
            # All are looked at, so that the silence of each begins to count
            useless = [self._is_useless(server) for server in of_job]
            if not all(useless):
                continue
            commands.cancel([job_id])
            names = ", ".join(server.server_id for server in of_job)
            reason = f"it was silent for {self.silent_s:g} s, and nobody leased it"
            print(f"slurmeval: job {job_id} of {names} is cancelled: {reason}", flush=True)
            for server in of_job:
                write(server.gone, Gone(CANCELLED, reason))

    def _is_useless(self, server: ServerFolder) -> bool:
        try:
            heartbeat = server.state.stat().st_mtime_ns
        except FileNotFoundError:
            heartbeat = 0
        before, since = self._heartbeats.get(server.path, (None, 0.0))
        if before != heartbeat:
            since = self.clock()
            self._heartbeats[server.path] = heartbeat, since
        return bool(self.clock() - since >= self.silent_s) and not is_leased(self.paths, server)


def is_leased(paths: Paths, server: ServerFolder) -> bool:
    """Whether anybody needs a server."""
    replica = server.path.parent.name
    return leases.is_leased(server.path, paths.leases / replica, paths.controller)


def servers_by_job(paths: Paths) -> dict[str, list[ServerFolder]]:
    """The servers of a project that Slurm was asked for, by their jobs; several may share one."""
    found: dict[str, list[ServerFolder]] = {}
    for server in servers(paths):
        job = read(server.job, ServerJob)
        if job is not None and job.is_on_slurm:
            found.setdefault(job.job_id, []).append(server)
    return found


def servers(paths: Paths) -> Iterator[ServerFolder]:
    """All that the project has had."""
    for folder in paths.servers.glob("*/*"):
        if folder.name.isdecimal():
            yield ServerFolder(folder)
