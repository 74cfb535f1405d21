"""Lock files: one live process at a time holds a thing, on any file system that creates files exclusively.

A lock file names its owner and whose time is the owner's heartbeat. A dead owner's file is
recognised (on the owner's host the kernel is asked, elsewhere a missing heartbeat decides) and taken over:
nobody unlocks by hand.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from slurmeval.files import create_exclusively
from slurmeval.processes import HEARTBEAT_S, STALE_S, identity, is_alive, silence_s
from slurmeval.state.owner import Owner
from slurmeval.state.records import Unreadable, encode, load


class LockFile:
    """This process's lock file; it has a heartbeat from `take` to `release` in a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._released = threading.Event()

    def take(
        self, *, token: str | None = None, since: str | None = None, job_id: str | None = None
    ) -> Owner | None:
        """Takes it, and returns None; or returns the live owner that has it.

        The details are written beside this process's identity.
        """
        content = json.dumps(encode(replace(identity(), token=token, since=since, job_id=job_id)))
        while not create_exclusively(self.path, content):
            owner = live_owner(self.path)
            if owner is not None:
                return owner
            _remove_dead(self.path)
        self._released.clear()
        threading.Thread(target=self._heartbeat, name=f"heartbeat {self.path.name}", daemon=True).start()
        return None

    def wait(
        self,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        **details: str | None,
    ) -> Owner | None:
        """`take`, tried again for `timeout_s` seconds while a live owner has it."""
        deadline = clock() + timeout_s
        while (owner := self.take(**details)) is not None and clock() < deadline:
            sleep(0.2)
        return owner

    def release(self) -> None:
        """Gives it back."""
        self._released.set()
        self.path.unlink(missing_ok=True)

    def _heartbeat(self) -> None:
        while not self._released.wait(HEARTBEAT_S):
            with contextlib.suppress(OSError):  # a full or absent file system: the next heartbeat tries again
                os.utime(self.path)


def live_owner(path: Path) -> Owner | None:
    """Returns the live process that holds `path`; None where nobody does."""
    try:
        owner = load(path, Owner)
    except FileNotFoundError:
        return None
    except Unreadable:  # made and not yet written, unless its maker died just then
        return Owner("unknown", 0) if silence_s(path) < STALE_S else None
    return owner if is_alive(owner, path) else None


def _remove_dead(path: Path) -> None:
    """Removes a dead owner's file, one process at a time.

    Each looks again before it does, so that none removes the lock file that another has made since.
    """
    guard = path.with_name(f"{path.name}.takeover")
    if not create_exclusively(guard):
        if STALE_S < silence_s(guard) < math.inf:  # its maker died in these few lines
            guard.unlink(missing_ok=True)
        time.sleep(0.01)
        return
    try:
        if live_owner(path) is None:
            path.unlink(missing_ok=True)
    finally:
        guard.unlink(missing_ok=True)
