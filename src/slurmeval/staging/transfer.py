"""What every download shares: a progress line, room on the disk, and failures of the disk in one line."""

from __future__ import annotations

import errno
import hashlib
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slurmeval.disk import is_full
from slurmeval.errors import UserError
from slurmeval.progress import Progress

REPORT_EVERY_S = 5.0
CHUNK_BYTES = 4 << 20
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}


def megabytes(size: float) -> str:
    if size >= 1e10:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder that may be changing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                total += path.stat().st_size
        except FileNotFoundError:  # renamed while we looked
            continue
    return total


@contextmanager
def metered(what: str, folder: Path, progress: Progress, total: int | None = None) -> Iterator[None]:
    """Says every `REPORT_EVERY_S` how many bytes have come into `folder`, and how fast."""
    before, started, done = folder_bytes(folder), time.monotonic(), threading.Event()

    def report() -> None:
        while not done.wait(REPORT_EVERY_S):
            come = folder_bytes(folder) - before
            rate = come / (time.monotonic() - started)
            of = f" of {megabytes(total)}" if total else ""
            progress(f"{what}: {megabytes(come)}{of}, {megabytes(rate)}/s")

    meter = threading.Thread(target=report, daemon=True)
    meter.start()
    try:
        yield
    finally:
        done.set()
        meter.join()


class Meter:
    """Says every `REPORT_EVERY_S` how much of `total` bytes is done, how fast, and how long it will take."""

    def __init__(self, what: str, total: int, progress: Progress) -> None:
        self.what, self.total, self.progress = what, total, progress
        self.done, self._lock, self._ended = 0, threading.Lock(), threading.Event()

    def add(self, size: int) -> None:
        with self._lock:
            self.done += size

    def __enter__(self) -> Meter:
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._report, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _report(self) -> None:
        while not self._ended.wait(REPORT_EVERY_S):
            rate = self.done / (time.monotonic() - self._started)
            left = f", {(self.total - self.done) / rate:.0f} s left" if rate else ""
            self.progress(
                f"{self.what}: {megabytes(self.done)} of {megabytes(self.total)}, {megabytes(rate)}/s{left}"
            )


def sha256_metered(path: Path, meter: Meter) -> str:
    """Returns a file's sha256, in hex; `meter` is told of each piece read."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            meter.add(len(chunk))
    return digest.hexdigest()


def need_room(
    what: str, folder: Path, size: int, remedy: str = "set staging.hf_home to another place"
) -> None:
    """Raises UserError unless `size` bytes are free where `folder` is or will be."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if free < size:
        raise UserError(
            f"{what}: {megabytes(size)} are needed in {folder}, {megabytes(free)} are free: "
            f"make room, or {remedy}"
        )


def forbidden(error: BaseException | None) -> str | None:
    """The file that could not be written for want of permission, or on a read-only file system, if that is
    what an error or its cause says."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FORBIDDEN and error.filename is not None:
            return str(error.filename)
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def disk_errors(what: str, folder: Path, remedy: str = "set staging.hf_home") -> Iterator[None]:
    """Turns a failing disk into one line (UserError)."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise UserError(
                f"{what}: the disk is full or over quota in {folder}: make room, or {remedy}"
            ) from error
        if error.errno in _FORBIDDEN:
            raise UserError(f"{what}: no permission to write in {folder}: {remedy}") from error
        raise
