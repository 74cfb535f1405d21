"""Writing the request log: each line before its request is answered, flushed to disk every 50 ms."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from pathlib import Path

from slurmeval.errors import SlurmevalError
from slurmeval.gateway.log import encode_header, segments
from slurmeval.gateway.settings import LogFailure
from slurmeval.processes import identity, is_alive
from slurmeval.state.owner import Owner
from slurmeval.state.records import read, write

FSYNC_S = 0.05
"""Seconds between two flushes: what a crash of the whole machine can lose."""

OWNER_FILE = "owner.json"
FAILED_FILE = "failed.json"

_logger = logging.getLogger(__name__)


class LogFailed(SlurmevalError):
    """The log cannot be written; nothing may be answered that is not logged."""


def own_log(folder: Path) -> None:
    """Makes this process the log's writer.

    Raises LogFailed while another one on this host lives: two would give the same stored answer twice. A
    writer on another host counts as gone, its job having ended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / OWNER_FILE
    owner = read(path, Owner)
    if owner is not None and is_alive(owner):
        raise LogFailed(f"{folder}: {owner} is writing this log")
    write(path, identity())


class LogWriter:
    """One segment.

    `write` is for one thread, the event loop's: a write into the page cache costs microseconds, and
    survives the death of this process. Flushing, which waits for the disk, has its own.
    """

    def __init__(self, folder: Path) -> None:
        """Starts a new segment in `folder`. Raises LogFailed."""
        self.folder = folder
        self.failure: str | None = None
        (folder / FAILED_FILE).unlink(missing_ok=True)
        self._dirty = threading.Event()
        self._ending = False
        self.segment, self._path, self._descriptor = _create_segment(folder)
        self._size = 0
        self.write(encode_header(self.segment, time.time(), identity()))
        self._thread = threading.Thread(target=self._flush_until_closed, name="log-fsync", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Appends one line. Raises LogFailed, now and ever after, when it cannot be written whole."""
        if self.failure is not None:
            raise LogFailed(self.failure)
        written = 0
        try:
            while written < len(line):
                written += os.write(self._descriptor, line[written:] if written else line)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            self._fail(error)
            raise LogFailed(self.failure) from error
        self._size += len(line)
        if not self._dirty.is_set():
            self._dirty.set()

    def close(self) -> None:
        """Flushes what is written and gives up the log."""
        self._ending = True
        self._dirty.set()
        self._thread.join()
        os.close(self._descriptor)
        (self.folder / OWNER_FILE).unlink(missing_ok=True)

    def _flush_until_closed(self) -> None:
        while not self._ending and self.failure is None:
            self._dirty.wait()
            self._dirty.clear()
            try:
                os.fsync(self._descriptor)
            except OSError as error:  # network file systems say here that they are full
                self._fail(error)
            if not self._ending:
                time.sleep(FSYNC_S)
        with contextlib.suppress(OSError):
            os.fsync(self._descriptor)

    def _fail(self, error: OSError) -> None:
        self.failure = f"the request log {self._path} cannot be written: {error.strerror or error}"
        _logger.error("%s", self.failure)
        with contextlib.suppress(OSError):  # a full disk may have no room for it; GET /progress says it too
            write(self.folder / FAILED_FILE, LogFailure(self.failure, time.time()))


def _create_segment(folder: Path) -> tuple[int, Path, int]:
    last = max((int(path.stem) for path in segments(folder)), default=0)
    for number in itertools.count(last + 1):
        path = folder / f"{number:04d}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        try:
            descriptor = os.open(path, flags, 0o644)
        except FileExistsError:
            continue
        except OSError as error:
            raise LogFailed(f"the request log {path} cannot be made: {error.strerror}") from error
        folder_descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(folder_descriptor)
        finally:
            os.close(folder_descriptor)
        return number, path, descriptor
    raise AssertionError("count() has no end")
