"""The start and the end of a run on a cluster."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence

from slurmeval.errors import UserError
from slurmeval.ownership import live_owner
from slurmeval.paths import Paths
from slurmeval.scheduling.silent_servers import SilentServers, is_leased, servers, servers_by_job
from slurmeval.servers.folder import ServerFolder
from slurmeval.slurm import commands
from slurmeval.slurm.commands import QueuedJob, SlurmAway, job_name
from slurmeval.slurm.states import CANCELLED
from slurmeval.state.records import read, write
from slurmeval.state.server import Gone, ServerJob, ServerState, ServerStatus

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
    for server in servers(paths):
        job, state = read(server.job, ServerJob), read(server.state, ServerState)
        waits = state is None or state.status is ServerStatus.PENDING
        if job is None or not job.is_on_slurm or not waits or server.gone.exists():
            continue
        if not is_leased(paths, server):
            waiting.append((server, job.job_id))
    if not waiting:
        return
    with contextlib.suppress(SlurmAway):
        commands.cancel([job_id for _, job_id in waiting], only_pending=True)
        left = {job.job_id for job in commands.queue()}
        for server, job_id in waiting:
            if job_id not in left:
                reason = "no evaluation waited for it any more"
                write(server.gone, Gone(CANCELLED, reason))


def forget_requests(paths: Paths) -> None:
    """Removes what an earlier run asked of servers' jobs and has not begun."""
    for file in (paths.state / "colocated").glob("*/[!.]*.json"):
        file.unlink(missing_ok=True)


def wait_for_jobs(paths: Paths) -> None:
    """Waits until the run's jobs have left the queue.

    Evaluations that go on without it, and their servers, are not waited for. What has no more to do and does
    not leave by itself is cancelled; what is left is named.
    """
    deadline = time.monotonic() + LEAVE_S
    silent = SilentServers(paths, silent_s=LEAVE_S * 0.8)
    left: list[QueuedJob] = []
    of_servers, of_evaluations = servers_by_job(paths), _evaluations_by_job(paths)
    with contextlib.suppress(SlurmAway, OSError):
        while True:
            queue = {job.job_id: job for job in commands.queue()}
            left = [
                job
                for job in queue.values()
                if job.name.startswith(job_name(paths.results, ""))
                and not _goes_on(paths, of_servers.get(job.job_id, []), of_evaluations.get(job.job_id))
            ]
            if not left or time.monotonic() > deadline:
                break
            _cancel_requeued(paths, left, of_servers, of_evaluations)
            silent.look(queue)
            time.sleep(0.5)
    for job in left:
        if not job.is_ending:
            names = [server.server_id for server in of_servers.get(job.job_id, [])]
            what = ", ".join(names) or " on ".join(of_evaluations.get(job.job_id, ())) or job.name
            where = f"is still in the queue ({job.state}): scancel {job.job_id}"
            print(f"slurmeval: job {job.job_id} of {what} {where}", flush=True)


def _cancel_requeued(
    paths: Paths,
    jobs: Iterable[QueuedJob],
    of_servers: Mapping[str, Sequence[ServerFolder]],
    of_evaluations: Mapping[str, tuple[str, str]],
) -> None:
    """Takes out of the queue what Slurm has put back though it has ended: after a node went down."""
    over = []
    for job in jobs:
        of_job, pair = of_servers.get(job.job_id, []), of_evaluations.get(job.job_id)
        closed = bool(of_job) and all(server.closed.exists() for server in of_job)
        if job.waits and (closed or (pair is not None and paths.evaluation(*pair).exists())):
            over.append(job.job_id)
    if over:
        commands.cancel(over)


def _goes_on(paths: Paths, of_job: Sequence[ServerFolder], pair: tuple[str, str] | None) -> bool:
    """Whether a job is of an evaluation that runs, or of a server that one leases."""
    if pair is not None:
        lock_files = paths.work(*pair, "x").parent.glob("*/owner.json")
        return any(live_owner(lock_file) is not None for lock_file in lock_files)
    return any(is_leased(paths, server) for server in of_job)


def _evaluations_by_job(paths: Paths) -> dict[str, tuple[str, str]]:
    """Model and benchmark of each evaluation's last job."""
    found = {}
    for file in paths.evaluation_jobs("m", "b").parent.parent.glob("*/*.jsonl"):
        lines = [line for line in file.read_bytes().split(b"\n") if line.strip()]
        with contextlib.suppress(ValueError, KeyError, IndexError):
            found[str(json.loads(lines[-1])["job_id"])] = file.parent.name, file.stem
    return found
