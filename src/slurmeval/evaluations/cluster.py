"""The start and the end of a run on a cluster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from slurmeval.errors import UserError
from slurmeval.files import read_json, write_json
from slurmeval.paths import Paths
from slurmeval.servers import leases
from slurmeval.servers.folder import ServerFolder
from slurmeval.slurm import commands
from slurmeval.slurm.commands import SlurmAway
from slurmeval.slurm.names import job_name

LEAVE_S = 30.0
"""How long jobs that have done their work may take to leave the queue."""


def check_slurm() -> None:
    """Raises UserError where no Slurm answers."""
    try:
        commands.queue(["slurmeval"], tries=3)
    except SlurmAway as error:
        raise UserError(
            f"Slurm does not answer here ({error}); profiles/local runs on one machine"
        ) from error


def cancel_unleased_servers(paths: Paths) -> None:
    """Takes servers out of the queue that nobody waits for any more."""
    waiting = []
    for folder in _servers(paths):
        server = ServerFolder(folder)
        job, state = read_json(server.job), read_json(server.state)
        waits = state is None or state["status"] == "pending"
        if job is None or job["cluster"] != "slurm" or not waits or server.gone.exists():
            continue
        if not leases.is_leased(folder, paths.leases / folder.parent.name, paths.controller):
            waiting.append((server, job["job_id"]))
    if not waiting:
        return
    with contextlib.suppress(SlurmAway):
        commands.cancel([job_id for _, job_id in waiting], "PENDING")
        left = {job.job_id for job in commands.queue()}
        for server, job_id in waiting:
            if job_id not in left:
                reason = "no evaluation waited for it any more"
                write_json(server.gone, {"state": "CANCELLED", "reason": reason})


def forget_requests(paths: Paths) -> None:
    """Removes what an earlier run asked of servers' jobs and has not begun."""
    for file in (paths.state / "inside").glob("*/[!.]*.json"):
        file.unlink(missing_ok=True)


def wait_for_jobs(paths: Paths) -> None:
    """Waits until the run's jobs have left the queue, but for evaluations that go on without it, and their
    servers."""
    prefix = job_name(paths.results, "")
    deadline = time.monotonic() + LEAVE_S
    with contextlib.suppress(SlurmAway):
        while time.monotonic() < deadline and not any(paths.leases.glob("*/*.json")):
            if not any(job.name.startswith(prefix) for job in commands.queue()):
                return
            time.sleep(0.5)


def _servers(paths: Paths) -> Iterator[Path]:
    for model in paths.servers.glob("*"):
        yield from (folder for folder in model.glob("*") if folder.name.isdecimal())
