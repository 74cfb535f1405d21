"""Names processes, and tells whether they live.

A name is not mistaken for that of a later process with the same number. Those on other hosts are heard of by
their heartbeats.

Clocks of nodes differ. So a heartbeat is not dated by them: it counts from when this process saw it change,
by its own steady clock. Only what is seen for the first time is judged by its age.
"""

from __future__ import annotations

import math
import os
import resource
import socket
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from slurmeval.state.owner import Owner

HEARTBEAT_S = 5.0
"""Seconds between two heartbeats of anything that has them (a controller, a server, an evaluation)."""

STALE_S = 60.0
"""So long without a heartbeat, seen from another host, means that its owner is gone."""

SKEW_S = 300.0
"""How far nodes' clocks may differ: Slurm's own authentication (munge) bears no more."""

WATCH_S = 3 * HEARTBEAT_S
"""How long a heartbeat is watched that looks old at first sight, and may be young by its owner's clock."""


def identity(pid: int | None = None) -> Owner:
    """Returns host, number and start time of a process of this host, by default of this one.

    The start time (field 22 of /proc/<pid>/stat) tells a reused process number apart. Raises
    ProcessLookupError where there is no such process.
    """
    pid = os.getpid() if pid is None else pid
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(f"no process {pid}") from error
    if fields[0] in "ZX":
        raise ProcessLookupError(f"process {pid} has ended")
    return Owner(socket.gethostname(), pid, int(fields[19]))


def is_alive(owner: Owner, heartbeat_path: Path | None = None) -> bool:
    """Returns whether the process that `identity` described still runs.

    On its own host the kernel is asked; from another host the silence of `heartbeat_path` decides (no
    heartbeat file: it counts as gone).
    """
    if owner.host == socket.gethostname():
        try:
            return identity(owner.pid).is_same_process(owner)
        except ProcessLookupError:
            return False
    return heartbeat_path is not None and silence_s(heartbeat_path) < STALE_S


class _Heartbeat(NamedTuple):
    """A heartbeat as this process has seen it."""

    modified_ns: int
    at: float
    """When it was, by this process's steady clock."""


_heartbeats: dict[Path, _Heartbeat] = {}
_ahead: dict[int, float] = {}
"""`file_system_ahead_s` of devices."""


def silence_s(heartbeat_path: Path) -> float:
    """Seconds since the last heartbeat; infinite where there is no such file.

    What looks too old at first sight, but by no more than clocks differ, gets WATCH_S to change.
    """
    now, seen = time.monotonic(), _heartbeats.get(heartbeat_path)
    try:
        modified_ns = heartbeat_path.stat().st_mtime_ns
        if seen is None or modified_ns < seen.modified_ns:
            old_s = max(age_s(heartbeat_path), 0.0)
            if STALE_S - WATCH_S < old_s < STALE_S + SKEW_S:
                old_s = STALE_S - WATCH_S
            seen = _Heartbeat(modified_ns, now - old_s)
        elif modified_ns > seen.modified_ns:
            seen = _Heartbeat(modified_ns, now)
    except FileNotFoundError:
        _heartbeats.pop(heartbeat_path, None)
        return math.inf
    _heartbeats[heartbeat_path] = seen
    return now - seen.at


def age_s(path: Path) -> float:
    """A file's age by this host's clock, and where that makes it look odd, by the file system's.

    Raises FileNotFoundError.
    """
    age = time.time() - path.stat().st_mtime
    if 0.0 <= age < STALE_S - WATCH_S:
        return age
    try:
        device = path.parent.stat().st_dev
        if device not in _ahead:
            _ahead[device] = file_system_ahead_s(path.parent)
        return age + _ahead[device]
    except OSError:
        return age


def file_system_ahead_s(folder: Path) -> float:
    """How far the clock that dates files in `folder` is ahead of this host's.

    Raises OSError where no file can be made there.
    """
    before = time.time()
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".slurmeval-clock.") as file:
        modified = Path(file.name).stat().st_mtime
    if modified < before:
        return modified - before
    return max(modified - time.time(), 0.0)


def raise_open_files() -> int:
    """Raises this process's limit of open files as far as it may; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 2**20
