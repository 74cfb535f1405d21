"""`slurmeval stop`: asks servers to stop, or makes them."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurmeval.cli.naming import about_results
from slurmeval.cli.numbers import Number

if TYPE_CHECKING:
    from slurmeval.paths import Paths
    from slurmeval.slurm.commands import QueuedJob
    from slurmeval.state.owner import Owner

POLL_INTERVAL_S = 0.2


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--now", is_flag=True, help="Do not let requests under way end: end the server's process or job."
)
@click.option("--no-wait", is_flag=True, help="Return at once.")
@click.option(
    "--timeout-s",
    type=Number(min=0),
    default=180.0,
    show_default=True,
    help="How long to wait for the servers to end.",
)
@about_results
def stop(models: tuple[str, ...], now: bool, no_wait: bool, timeout_s: float, results: Path) -> int:
    """Stops the servers of some models, or all.

    A server that is asked lets requests under way end, within its drain_s. Evaluations that still need it end
    as cancelled; what they have answered is kept, and the next run carries on from there.
    """
    from slurmeval.cli.queued import queued
    from slurmeval.cli.run_state import live_servers, read_run
    from slurmeval.errors import UserError
    from slurmeval.paths import Paths

    root = results.absolute()
    paths = Paths.of_results(root)
    known = sorted({_model(folder) for folder in paths.servers.glob("*") if folder.is_dir()})
    for model in models:
        if model not in known:
            there = ", ".join(known) or "none"
            raise UserError(f"no server of a model '{model}' in {results}; there are: {there}")
    folders = [folder for folder in live_servers(paths) if not models or _model(folder.parent) in models]
    if not folders:
        click.echo("No server runs.")
        return _name_strays(paths, [])
    controller = read_run(results).controller
    if controller is not None:
        click.echo(
            f"A run is under way ({controller}): evaluations that need a stopped server end as cancelled.",
            err=True,
        )
    for folder in folders:
        _ask(folder)
        if now:
            _end(folder)
    status = 0 if no_wait else wait_until_stopped(folders, timeout_s, jobs=lambda: queued(paths))
    return max(status, _name_strays(paths, folders))


def _name_strays(paths: Paths, known: list[Path]) -> int:
    """Names this project's server jobs in the queue that run no known server.

    Returns 1 where there are some, else 0.
    """
    from slurmeval.cli.queued import queued
    from slurmeval.servers.folder import ServerFolder
    from slurmeval.slurm.commands import job_name
    from slurmeval.state.records import read
    from slurmeval.state.server import ServerJob

    found = (read(ServerFolder(folder).job, ServerJob) for folder in known)
    of_known = {job.job_id for job in found if job is not None}
    prefixes = tuple(job_name(paths.results, role) for role in ("serve-", "slot-"))
    strays = [
        job
        for job in queued(paths).values()
        if job.name.startswith(prefixes) and not job.is_ending and job.job_id not in of_known
    ]
    for job in strays:
        click.echo(f"job {job.job_id} ({job.name}) is still {job.state}: scancel {job.job_id}", err=True)
    return 1 if strays else 0


def wait_until_stopped(
    folders: list[Path],
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    jobs: Callable[[], Mapping[str, QueuedJob]] = dict,
) -> int:
    """Says when each server has stopped, or which status it has when the time is over.

    Args:
        folders: The servers' folders.
        timeout_s: Longest wait.
        clock: Monotonic clock, in seconds.
        sleep: Waits for so many seconds.
        jobs: Returns what is in Slurm's queue, by job id.

    Returns:
        1 where a server has not stopped within the time, else 0.
    """
    from slurmeval.cli.run_state import read_server

    deadline = clock() + timeout_s
    waiting = list(folders)
    while waiting:
        for folder in list(waiting):
            server = read_server(folder, jobs())
            if server is None or server.status.is_final:
                click.echo(f"{_name(folder)}: {server.status if server else 'gone'}")
                waiting.remove(folder)
        if not waiting:
            break
        if clock() >= deadline:
            for folder in waiting:
                server = read_server(folder, jobs())
                last = server.status if server else "unknown"
                click.echo(f"{_name(folder)}: still {last} after {timeout_s:g} s (--now ends it)", err=True)
            return 1
        sleep(POLL_INTERVAL_S)
    return 0


def _ask(folder: Path) -> None:
    from slurmeval.files import create_exclusively
    from slurmeval.servers.folder import ServerFolder

    create_exclusively(ServerFolder(folder).stop)
    click.echo(f"{_name(folder)}: asked to stop")


def _end(folder: Path) -> None:
    """Ends the job that the server runs in. A process of another host is left alone."""
    from slurmeval.servers.folder import ServerFolder
    from slurmeval.slurm import commands
    from slurmeval.state.records import read
    from slurmeval.state.server import ServerJob, ServerState

    files = ServerFolder(folder)
    job, state = read(files.job, ServerJob), read(files.state, ServerState)
    owner = None if state is None else state.owner
    if job is not None and job.is_on_slurm and commands.is_here("scancel"):
        cancelled = commands.cancel_aloud(job.job_id)
        click.echo(
            f"{_name(folder)}: job {job.job_id} {'cancelled' if cancelled else 'could not be cancelled'}"
        )
    elif owner is not None and owner.host == socket.gethostname():
        ended = terminate(owner)
        click.echo(f"{_name(folder)}: process {owner.pid} {'told to end' if ended else 'has ended'}")
    elif owner is not None:
        click.echo(f"{_name(folder)}: runs on {owner.host}; run this there, or cancel its job", err=True)
    else:
        click.echo(f"{_name(folder)}: has no process yet; it will stop when it starts")


def terminate(owner: Owner) -> bool:
    """Sends SIGTERM to exactly the process that `owner` names; returns False where it has ended."""
    from slurmeval.processes import is_alive

    try:
        handle = os.pidfd_open(owner.pid)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    try:
        # The handle is of one process: if the identity fits now, it fits the handle
        if not is_alive(owner):
            return False
        signal.pidfd_send_signal(handle, signal.SIGTERM)
    except (ProcessLookupError, KeyError):
        return False
    finally:
        os.close(handle)
    return True


def _model(folder: Path) -> str:
    """Returns the model whose servers, or whose replica's, lie in a folder."""
    return folder.name.partition("@")[0]


def _name(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"
