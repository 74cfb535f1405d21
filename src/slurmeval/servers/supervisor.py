"""The supervisor: the job that keeps one server answering while it is leased.

It waits for a slot, starts the engine, proves that it answers, publishes its endpoint, has a heartbeat,
starts the engine again when it dies, and ends when no lease is left, when told to stop, or when the engine
cannot be made to serve. It leaves no process behind.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slurmeval.servers.folder import ServerFolder
from slurmeval.servers.job import BatchJob
from slurmeval.servers.ranks import Worker
from slurmeval.servers.state import FencedOff
from slurmeval.servers.supervision import Supervision
from slurmeval.servers.timing import Timing
from slurmeval.state.records import load
from slurmeval.state.server_spec import ServerSpec


class Supervisor:
    """What submitit runs on each node of a server: supervises it, or follows who does. Can be requeued."""

    def __init__(self, path: Path, timing: Timing | None = None) -> None:
        self.path = path
        self.timing = timing or Timing()
        self._supervision: Supervision | None = None

    def __call__(self) -> str:
        """Runs the server to its end, and returns its last status."""
        folder = ServerFolder(self.path)
        try:
            spec = load(folder.spec, ServerSpec)
        except FileNotFoundError:
            raise SystemExit(f"the server's folder has been removed: {self.path}") from None
        job = BatchJob.of(spec)
        with _logging_to(folder, job.rank):
            if job.rank > 0:
                return Worker(folder, spec, job, self.timing).run()
            try:
                self._supervision = Supervision(folder, spec, job, self.timing)
            except FencedOff as fenced:
                raise SystemExit(f"fenced off: {fenced}") from fenced
            return self._supervision.run()

    def suspend(self) -> None:
        """Drains the server and ends the engine, for its job to be requeued; for signal handlers.

        SystemExit must follow.
        """
        if self._supervision is not None:
            self._supervision.suspend()

    def checkpoint(self) -> Any:
        """Has the server drain, and the job requeued under its id.

        Submitit calls this, in a signal handler, before the job's time ends or when it is preempted.
        """
        import submitit

        self.suspend()
        return submitit.helpers.DelayedSubmission(Supervisor(self.path, self.timing))


@contextlib.contextmanager
def _logging_to(folder: ServerFolder, rank: int) -> Iterator[None]:
    """Has this package's log written to the server's folder."""
    name = folder.supervisor_log if rank == 0 else folder.supervisor_log.with_name(f"supervisor-{rank}.log")
    handler = logging.FileHandler(name)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    package = logging.getLogger("slurmeval")
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(handler)
        handler.close()
