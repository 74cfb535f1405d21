"""Leases: an evaluation's claim on its model's server. A server lives while it has leases.

This module and all that it imports at its top come from the standard library and load in a few
milliseconds, since every evaluation starts a process to take a lease."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slurmeval.errors import NotYet, ServerFailed
from slurmeval.files import create_exclusively, read_json, write_json
from slurmeval.processes import identity, is_alive
from slurmeval.servers.folder import ServerFolder, numbered, numbers
from slurmeval.servers.protocol import (
    Lease,
    acquiring,
    closing,
    counting,
    evaluating,
    living,
    run_steps,
    usable,
)

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
        try:
            return frozenset(entry.name for entry in folder.iterdir())
        except FileNotFoundError:
            return frozenset()

    def read(self, path: Path) -> Any:
        try:
            return read_json(path)
        except ValueError:  # a claim that is made just now
            return None

    def write(self, path: Path, value: Any) -> None:
        write_json(path, value)

    def create(self, path: Path) -> bool:
        return create_exclusively(path)

    def make(self, folder: Path, files: Mapping[str, Any]) -> bool:
        """Prepares the folder under another name and renames it: a rename onto a folder that is not empty
        fails, so this is exclusive, and nobody sees the folder without its files."""
        aside = folder.parent / f".{folder.name}.{os.uname().nodename}.{os.getpid()}.{time.monotonic_ns()}"
        try:
            for name, value in files.items():
                write_json(aside / name, value)
            aside.rename(folder)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)
            if not folder.is_dir():
                raise
            return False
        return True

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def me(self) -> dict[str, Any]:
        return identity()

    def alive(self, owner: Mapping[str, Any], beat: Path | None) -> bool:
        return is_alive(dict(owner), beat)

    def submit(self, folder: Path) -> None:
        try:
            self._submit(folder)
        except ServerFailed as error:
            # For the other lessees of this run, which would each submit again.
            write_json(
                folder / ServerFolder.STATE,
                {"status": "failed", "reason": str(error), "error_class": "server_lost", "owner": None},
            )
            raise
        except NotYet:
            discard(folder)
            raise

    def pause(self) -> None:
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
    """Has the server's job submitted by a process in a session of its own with its output in a file: a
    local job inherits both, and must outlive Ctrl-C and hold no pipe open. `options`: of
    `slurmeval.servers.submit`. Raises ServerFailed, or NotYet where it may be submitted later."""
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
    spec: Mapping[str, Any],
    benchmark: str,
    controller: Mapping[str, Any],
    submit: Submit = submit_detached,
    timeout_s: float = SUBMISSION_TIMEOUT_S,
    evaluation: Path | None = None,
    above: int = 0,
) -> Lease:
    """Takes a lease of `benchmark` on the server of `spec` (ServerSpec.to_json) and returns at once, with the
    server pending, starting or ready; submits one where none is current. `controller` is the content of
    `state/controller.json`: identity and token. `evaluation` is the file by which the running evaluation
    claims to. `above`: only a server with a higher number will do. Raises ServerFailed where this run's
    server failed for good or could not be submitted; then no lease is held. Raises NotYet where its job may
    be submitted later; the lease is as it was before then."""
    file = Path(spec["leases"]) / f"{benchmark}.json"
    before = read_json(file)
    as_written = json.loads(json.dumps(dict(spec)))  # it is compared with what other processes have read
    claim = None if evaluation is None else str(evaluation)
    steps = acquiring(as_written, benchmark, controller, claim, above)
    try:
        return run_steps(LocalDisk(submit, timeout_s), steps)
    except NotYet:
        if before is None:
            file.unlink(missing_ok=True)
        else:
            write_json(file, before)
        raise


def holds(spec: Mapping[str, Any], benchmark: str, controller: Mapping[str, Any]) -> bool:
    """Whether this run holds a lease of `benchmark` on a server of `spec` that is there, or on its way.
    Raises ServerFailed where that server failed for good."""
    as_written = json.loads(json.dumps(dict(spec)))
    lease = read_json(Path(spec["leases"]) / f"{benchmark}.json")
    if lease is None or lease["released"] or lease["controller"].get("token") != controller.get("token"):
        return False
    return run_steps(LocalDisk(submit_detached), usable(Path(lease["server"]), as_written, controller))


def prepare(spec: Mapping[str, Any], controller: Mapping[str, Any]) -> Path | None:
    """Makes the folder of a server of `spec` that the caller is to submit, marked as such; None where one is
    there already. Raises ServerFailed where this run's server failed for good."""
    as_written = json.loads(json.dumps(dict(spec)))
    disk, servers = LocalDisk(submit_detached), Path(spec["servers"])
    number = max(numbers(disk.list(servers)), default=0)
    if number and run_steps(disk, usable(numbered(servers, number), as_written, controller)):
        return None
    folder = numbered(servers, number + 1)
    submitter = {**identity(), "token": controller.get("token")}
    files = {ServerFolder.SPEC: as_written, ServerFolder.SUBMITTER: submitter}
    if not disk.make(folder, files):
        return None
    create_exclusively(ServerFolder(folder).submitted)
    return folder


def release(lease: Path) -> None:
    """Gives a lease back, keeping the file. No lease, no harm."""
    content = read_json(lease)
    if content is not None and not content["released"]:
        write_json(lease, {**content, "released": True})


def live_leases(leases: Path, server: Path, controller: Path) -> list[Path]:
    """The leases in a model's folder `leases` that keep `server` alive."""
    return run_steps(LocalDisk(submit_detached), living(server, leases, controller))


def is_leased(server: Path, leases: Path, controller: Path) -> bool:
    """Whether any live lease names `server`."""
    return bool(run_steps(LocalDisk(submit_detached), living(server, leases, controller, limit=1)))


def close_if_unused(server: Path, leases: Path, controller: Path) -> bool:
    """One try of a server to close itself; True when it is closed for good. For its supervisor only."""
    return run_steps(LocalDisk(submit_detached), closing(server, leases, controller))


def counts(lease: Path, controller: Path | None) -> bool:
    """Whether a lease is live: its run is under way (not asked where `controller` is None), or its
    evaluation. Raises ValueError, KeyError where the file is no lease."""
    content = json.loads(lease.read_bytes())
    steps = evaluating(content) if controller is None else counting(content, controller)
    return not content["released"] and run_steps(LocalDisk(submit_detached), steps)
