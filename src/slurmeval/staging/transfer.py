"""What every download shares: a progress line, room on the disk, and failures of the disk in one line."""

from __future__ import annotations

import errno
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slurmeval.errors import UserError
from slurmeval.runtime.making import Progress

REPORT_EVERY_S = 5.0
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def megabytes(size: float) -> str:
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


def need_room(what: str, folder: Path, size: int) -> None:
    """Raises UserError unless `size` bytes are free where `folder` is or will be."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if free < size:
        raise UserError(
            f"{what}: {megabytes(size)} are needed in {folder}, {megabytes(free)} are free: "
            "make room, or set staging.hf_home to another place"
        )


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is a full disk or quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def disk_errors(what: str, folder: Path) -> Iterator[None]:
    """Turns a failing disk into one line (UserError)."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise UserError(
                f"{what}: the disk is full or over quota in {folder}: make room, or set staging.hf_home"
            ) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise UserError(f"{what}: no permission to write in {folder}: set staging.hf_home") from error
        raise
