"""Scratch folders on the node's own disk, each for one evaluation or engine and as long as it runs."""

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

_PREFIX = "slurmeval-scratch-"
_MINIMUM_AGE_S = 60.0
"""A younger folder may be one whose lock is not there yet."""
_SUITABLE_NAME = re.compile(r"[A-Za-z0-9/._+-]+")
"""Harnesses put TMPDIR unquoted into shell scripts."""
LONGEST_PARENT = 60
"""Characters: the name of a socket has at most 107 bytes."""


@dataclass(frozen=True)
class ScratchDir:
    """A folder with the socket of the evaluation's gateway (or the engine's sockets), and temporary files."""

    folder: Path

    @property
    def socket_folder(self) -> Path:
        """The folder of the gateway's socket: all that a harness sees of this one."""
        return self.folder / "socket"

    @property
    def socket(self) -> Path:
        """The gateway's socket."""
        return self.socket_folder / "gateway.sock"

    @property
    def temporary(self) -> Path:
        """The folder for temporary files."""
        return self.folder / "temporary"

    @property
    def lock(self) -> Path:
        """The file that is locked for as long as the evaluation's process lives."""
        return self.folder / "lock"


@contextlib.contextmanager
def scratch_dir(longest_parent: int = LONGEST_PARENT) -> Iterator[ScratchDir]:
    """Makes an empty folder for this user only, and removes it in the end.

    Also removes this node's folders whose processes were killed. It lies in the folder for temporary files
    where that has a name of at most `longest_parent` characters, else in /tmp.
    """
    given = tempfile.gettempdir()
    suitable = len(given) <= longest_parent and _SUITABLE_NAME.fullmatch(given)
    parent = Path(given if suitable else "/tmp")
    _remove_abandoned(parent)
    made = ScratchDir(Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)))
    try:
        with made.lock.open("w") as held:
            with contextlib.suppress(OSError):  # a file system without locks: no folder looks abandoned there
                fcntl.flock(held, fcntl.LOCK_EX)
            made.socket_folder.mkdir()
            made.temporary.mkdir()
            yield made
    finally:
        shutil.rmtree(made.folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            known = folder.lstat()
            if known.st_uid != os.getuid() or time.time() - known.st_mtime < _MINIMUM_AGE_S:
                continue
            with ScratchDir(folder).lock.open("a") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its evaluation lives
                shutil.rmtree(folder, ignore_errors=True)
