"""Rooms: folders on the node's own disk, each for one evaluation and as long as it runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "slurmeval-room-"
_FRESH_S = 60.0
"""A room younger than this may be one that is just being made."""
_SUITABLE = re.compile(r"[A-Za-z0-9/._+-]{1,60}")
"""The name of a socket has at most 107 bytes, and harnesses put TMPDIR unquoted into shell scripts."""


@dataclass(frozen=True)
class Room:
    """A folder with the way to the evaluation's gateway, and with room for what is written meanwhile."""

    folder: Path

    @property
    def way(self) -> Path:
        """The folder of the gateway's socket: all of the room that a harness sees."""
        return self.folder / "way"

    @property
    def socket(self) -> Path:
        return self.way / "gateway.sock"

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    @property
    def lock(self) -> Path:
        """Held for as long as the evaluation's process lives."""
        return self.folder / "lock"


@contextlib.contextmanager
def room() -> Iterator[Room]:
    """Made empty, for this user only, and removed; so are this node's rooms whose evaluations were killed."""
    given = tempfile.gettempdir()
    parent = Path(given if _SUITABLE.fullmatch(given) else "/tmp")
    _remove_abandoned(parent)
    made = Room(Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)))
    try:
        with made.lock.open("w") as held:
            with contextlib.suppress(OSError):  # a file system without locks: there no room looks abandoned
                fcntl.flock(held, fcntl.LOCK_EX)
            made.way.mkdir()
            made.scratch.mkdir()
            yield made
    finally:
        shutil.rmtree(made.folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            known = folder.lstat()
            if known.st_uid != os.getuid() or time.time() - known.st_mtime < _FRESH_S:
                continue
            with Room(folder).lock.open("a") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its evaluation lives
                shutil.rmtree(folder, ignore_errors=True)
