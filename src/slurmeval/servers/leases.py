"""Leases: an evaluation's right to its model's server. A server lives while it has leases.

This module and all that it imports at its top load in a few milliseconds (besides the standard library it is
msgspec alone), since every evaluation starts a process to take a lease.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from slurmeval.errors import NotYet, ServerFailed
from slurmeval.files import create_exclusively
from slurmeval.processes import identity, is_alive
from slurmeval.servers import protocol
from slurmeval.servers.folder import ServerFolder, numbered, numbers
from slurmeval.servers.protocol import (
    acquiring,
    closing,
    counting,
    evaluating,
    living,
    run_steps,
    usable,
)
from slurmeval.state.lease import Lease
from slurmeval.state.owner import Owner
from slurmeval.state.records import load, read, write
from slurmeval.state.server import failed
from slurmeval.state.server_spec import ServerSpec

T = TypeVar("T")

SUBMISSION_TIMEOUT_S = 120.0
"""Longest wait for a job that another lessee is submitting."""

UNUSED = "no lease is left"
"""Why a server ends that saw none."""

NOT_YET = 75
"""Exit status of `slurmeval.servers.submit` where the job may be submitted later (sysexits' EX_TEMPFAIL)."""

Submit = Callable[[Path], None]


class LocalDisk:
    """The protocol's `Disk` on the real file system."""

    def __init__(self, submit: Submit, timeout_s: float = SUBMISSION_TIMEOUT_S) -> None:
        self._submit = submit
        self._timeout_s = timeout_s
        self._deadline: float | None = None

    def list(self, folder: Path) -> frozenset[str]:
        """Returns the names in `folder`; none where it is not there."""
        try:
            return frozenset(entry.name for entry in folder.iterdir())
        except FileNotFoundError:
            return frozenset()

    def read(self, path: Path, record: type[T]) -> T | None:
        """Returns the record in `path`, or None."""
        return read(path, record)

    def write(self, path: Path, record: Any) -> None:
        """Writes a record atomically."""
        write(path, record)

    def create(self, path: Path) -> bool:
        """Creates an empty file; False where it is there."""
        return create_exclusively(path)

    def make(self, folder: Path, files: Mapping[str, Any]) -> bool:
        """Prepares the folder under another name and renames it.

        A rename onto a folder that is not empty fails, so this is exclusive, and nobody sees the folder
        without its files.
        """
        aside = folder.parent / f".{folder.name}.{os.uname().nodename}.{os.getpid()}.{time.monotonic_ns()}"
        try:
            for name, record in files.items():
                write(aside / name, record)
            aside.rename(folder)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)
            if not folder.is_dir():
                raise
            return False
        return True

    def remove(self, path: Path) -> None:
        """Removes a file that may be gone."""
        path.unlink(missing_ok=True)

    def me(self) -> Owner:
        """Returns this process."""
        return identity()

    def alive(self, owner: Owner, heartbeat: Path | None) -> bool:
        """Returns whether the owner lives."""
        return is_alive(owner, heartbeat)

    def submit(self, folder: Path) -> None:
        """Submits the server's job. Raises ServerFailed."""
        try:
            self._submit(folder)
        except ServerFailed as error:
            # For the other lessees of this run, which would each submit again.
            write(folder / ServerFolder.STATE, failed(str(error)))
            raise
        except NotYet:
            discard(folder)
            raise

    def pause(self) -> None:
        """Waits a little for another's submission. Raises ServerFailed after too long."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._timeout_s
        if now > self._deadline:
            raise ServerFailed(f"the server's job was not submitted within {self._timeout_s:.0f} s")
        time.sleep(0.02)


def discard(folder: Path) -> None:
    """Takes away the folder of a server that was never submitted: its number is free again."""
    aside = folder.with_name(f".{folder.name}.{os.uname().nodename}.{os.getpid()}.{time.monotonic_ns()}")
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def submit_detached(folder: Path, *options: str) -> None:
    """Has the server's job submitted by a process in a session of its own, with its output in a file.

    A local job inherits both, and must outlive Ctrl-C and hold no pipe open. `options`: of
    `slurmeval.servers.submit`. Raises ServerFailed, or NotYet where it may be submitted later.
    """
    import subprocess  # here, since most leases submit nothing

    log = ServerFolder(folder).submit_log
    with log.open("wb") as stream:
        returncode = subprocess.run(
            [sys.executable, "-m", "slurmeval.servers.submit", *options, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            check=False,
        ).returncode
    if returncode != 0:
        lines = log.read_text(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"status {returncode}"
        if returncode == NOT_YET:
            raise NotYet(reason)
        raise ServerFailed(f"the server's job could not be submitted: {reason}")


def acquire(
    spec: ServerSpec,
    benchmark: str,
    controller: Owner,
    submit: Submit = submit_detached,
    timeout_s: float = SUBMISSION_TIMEOUT_S,
    evaluation: Path | None = None,
    above: int = 0,
) -> Lease:
    """Takes a lease of `benchmark` on the server of `spec` and returns at once.

    The server is pending, starting or ready; one is submitted where none is current. `controller`: the run's
    owner, with its token. `evaluation`: the lock file of the running evaluation. `above`: only a server with
    a higher number will do. Raises ServerFailed where this run's server failed for good or could not be
    submitted; then no lease is held. Raises NotYet where its job may be submitted later; the lease is as it
    was before then.
    """
    file = Path(spec.leases) / f"{benchmark}.json"
    before = read(file, Lease)
    steps = acquiring(spec, benchmark, controller, evaluation, above)
    try:
        return run_steps(LocalDisk(submit, timeout_s), steps)
    except NotYet:
        if before is None:
            file.unlink(missing_ok=True)
        else:
            write(file, before)
        raise


def holds(spec: ServerSpec, benchmark: str, controller: Owner) -> bool:
    """Returns whether this run holds a lease of `benchmark` on a server that is there, or on its way.

    The server is one of `spec`. Raises ServerFailed where it failed for good.
    """
    lease = read(Path(spec.leases) / f"{benchmark}.json", Lease)
    if lease is None or lease.released or lease.server is None or lease.controller.token != controller.token:
        return False
    return run_steps(LocalDisk(submit_detached), usable(lease.server, spec, controller))


def prepare(spec: ServerSpec, controller: Owner) -> Path | None:
    """Makes the folder of a server of `spec` that the caller is to submit, marked as such.

    Returns None where one is there already. Raises ServerFailed where this run's server failed for good.
    """
    disk, servers = LocalDisk(submit_detached), Path(spec.servers)
    number = max(numbers(disk.list(servers)), default=0)
    if number and run_steps(disk, usable(numbered(servers, number), spec, controller)):
        return None
    folder = numbered(servers, number + 1)
    submitter = replace(identity(), token=controller.token)
    files = {ServerFolder.SPEC: spec, ServerFolder.SUBMITTER: submitter}
    if not disk.make(folder, files):
        return None
    create_exclusively(ServerFolder(folder).submitted)
    return folder


def release(lease: Path) -> None:
    """Gives a lease back, keeping the file. No lease, no harm."""
    content = read(lease, Lease)
    if content is not None and not content.released:
        write(lease, replace(content, released=True))


def is_leased(server: Path, leases: Path, controller: Path) -> bool:
    """Whether any live lease names `server`."""
    return bool(run_steps(LocalDisk(submit_detached), living(server, leases, controller, limit=1)))


def running(server: Path, leases: Path) -> int:
    """Returns how many evaluations that lease `server` run."""
    return run_steps(LocalDisk(submit_detached), protocol.running(server, leases))


def close_if_unused(server: Path, leases: Path, controller: Path) -> bool:
    """One try of a server to close itself; True when it is closed for good. For its supervisor only."""
    return run_steps(LocalDisk(submit_detached), closing(server, leases, controller))


def counts(lease: Path, controller: Path | None) -> bool:
    """Returns whether a lease is live.

    It is where its run is under way (not asked where `controller` is None), or its evaluation. Raises
    FileNotFoundError, or Unreadable where the file is no lease.
    """
    content = load(lease, Lease)
    steps = evaluating(content) if controller is None else counting(content, controller)
    return not content.released and run_steps(LocalDisk(submit_detached), steps)
