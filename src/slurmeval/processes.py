"""Who runs: naming a process so that it is not mistaken for a later one with the same number, and hearing of
those on other hosts by their beats.

Clocks of nodes differ. So a beat is not dated by them: it counts from when this process saw it change, by its
own steady clock. Only what is seen for the first time is judged by its age."""

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

BEAT_S = 5.0
"""Seconds between two beats of anything that beats (a controller, a server, an evaluation)."""

STALE_S = 60.0
"""So long without a beat, seen from another host, means that its owner is gone."""

SKEW_S = 300.0
"""How far nodes' clocks may differ: Slurm's own authentication (munge) bears no more."""

WATCH_S = 3 * BEAT_S
"""How long a beat is watched that looks old at first sight, and may be young by its owner's clock."""


def identity(pid: int | None = None) -> Owner:
    """Returns host, number and start time of a process of this host, by default of this one. The start time
    (field 22 of /proc/<pid>/stat) tells a reused process number apart. Raises ProcessLookupError where there
    is no such process."""
    pid = os.getpid() if pid is None else pid
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(f"no process {pid}") from error
    if fields[0] in "ZX":
        raise ProcessLookupError(f"process {pid} has ended")
    return Owner(socket.gethostname(), pid, int(fields[19]))


def is_alive(owner: Owner, beat_path: Path | None = None) -> bool:
    """Returns whether the process that `identity` described still runs. On its own host the kernel is asked;
    from another host the silence of `beat_path` decides (no beat file: it counts as gone)."""
    if owner.host == socket.gethostname():
        try:
            return identity(owner.pid).is_same_process(owner)
        except ProcessLookupError:
            return False
    return beat_path is not None and silence_s(beat_path) < STALE_S


class _Beat(NamedTuple):
    """A beat as this process has seen it."""

    modified_ns: int
    at: float
    """When it was, by this process's steady clock."""


_beats: dict[Path, _Beat] = {}
_ahead: dict[int, float] = {}
"""`file_system_ahead_s` of devices."""


def silence_s(beat_path: Path) -> float:
    """Seconds since the last beat; infinite where there is no such file. What looks too old at first sight,
    but by no more than clocks differ, gets WATCH_S to change."""
    now, seen = time.monotonic(), _beats.get(beat_path)
    try:
        modified_ns = beat_path.stat().st_mtime_ns
        if seen is None or modified_ns < seen.modified_ns:
            old_s = max(age_s(beat_path), 0.0)
            if STALE_S - WATCH_S < old_s < STALE_S + SKEW_S:
                old_s = STALE_S - WATCH_S
            seen = _Beat(modified_ns, now - old_s)
        elif modified_ns > seen.modified_ns:
            seen = _Beat(modified_ns, now)
    except FileNotFoundError:
        _beats.pop(beat_path, None)
        return math.inf
    _beats[beat_path] = seen
    return now - seen.at


def age_s(path: Path) -> float:
    """A file's age by this host's clock, and where that makes it look odd, by the file system's. Raises
    FileNotFoundError."""
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
    """How far the clock that dates files in `folder` is ahead of this host's. Raises OSError where no file
    can be made there."""
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
