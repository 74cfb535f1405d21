"""The run under way in a project folder: one at a time, seen by servers and evaluations by its heartbeat.

Snakemake's own lock outlives a killed run until someone says `--unlock`; this one names its owner.
"""

from __future__ import annotations

import secrets
import socket
import time

from slurmeval.errors import UserError
from slurmeval.ownership import LockFile
from slurmeval.paths import Paths
from slurmeval.processes import HEARTBEAT_S, WATCH_S
from slurmeval.scheduling.leasing import forget_leases


class Controller:
    """Holds a project folder for this process while Snakemake runs jobs."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.lock_file = LockFile(paths.controller)

    def begin(self) -> None:
        """Takes the folder, and has a heartbeat from now on. Raises UserError where another run holds it."""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        token = secrets.token_hex(8)
        owner = self.lock_file.take(token=token, since=since)
        if owner is not None and owner.host != socket.gethostname():
            # It may have died with its host
            owner = self.lock_file.wait(WATCH_S + HEARTBEAT_S, token=token, since=since)
        if owner is not None:
            where = f"{owner}, since {owner.since or 'just now'}"
            raise UserError(f"another run is under way in this folder ({where}); wait for it or stop it")

    def end_leases(self) -> None:
        """Ends all leases but those of evaluations that go on without this run, as on a cluster.

        So servers stop, and the next plan shows what it will lease.
        """
        forget_leases(self.paths, None)

    def end(self) -> None:
        """Gives the folder back."""
        self.end_leases()
        self.lock_file.release()
