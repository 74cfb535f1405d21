"""Disk space, and failures of a disk in one line."""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from slurmeval.errors import UserError
from slurmeval.progress import size_text

_FULL_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN_ERRORS = {errno.EROFS, errno.EACCES, errno.EPERM}
_FULL_MESSAGES = re.compile(
    r"no space left|disk quota exceeded|file too large|os error (28|122|27)\b", re.IGNORECASE
)
"""How programs report these errors. The numbers are uv's."""


def existing(folder: Path) -> Path:
    """Returns the folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def free_bytes(folder: Path) -> int:
    """Returns the free bytes where `folder` is or will be."""
    return shutil.disk_usage(existing(folder)).free


def folder_bytes(folder: Path) -> int:
    """Returns the bytes of all files below a folder that may be changing."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # renamed since it was listed
            if path.is_file() and not path.is_symlink():
                total += path.stat().st_size
    return total


def require_space(what: str, folder: Path, size: int, remedy: str, details: str = "") -> None:
    """Checks that `size` bytes are free where `folder` is or will be.

    Raises:
        UserError: There is not enough space. The message has `details` and `remedy`.
    """
    if (free := free_bytes(folder)) < size:
        raise UserError(
            f"{what}: {size_text(size)} are needed in {folder}{details and f' ({details})'}, "
            f"{size_text(free)} are free: make room, or {remedy}"
        )


def is_full(error: BaseException | None) -> bool:
    """Returns whether a full disk or quota caused an error."""
    return any(isinstance(cause, OSError) and cause.errno in _FULL_ERRORS for cause in _causes(error))


def reports_full(output: str) -> bool:
    """Returns whether a program's output reports a full disk or quota."""
    return _FULL_MESSAGES.search(output) is not None


def forbidden_file(error: BaseException | None) -> str | None:
    """Returns the file that permissions or a read-only file system kept from being written, if any did."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in _FORBIDDEN_ERRORS and cause.filename is not None:
            return str(cause.filename)
    return None


def full_error(what: str, folder: Path, remedy: str) -> UserError:
    """Returns the error that reports a full disk."""
    return UserError(f"{what}: the disk is full or over quota in {folder}: make room, or {remedy}")


@contextlib.contextmanager
def disk_errors(what: str, folder: Path, remedy: str) -> Iterator[None]:
    """Turns an OSError of the body into one line.

    Raises:
        UserError: The disk is full, read-only or forbidden (the message has `remedy`), or fails otherwise.
        OSError: It is no failure of a disk, but of a connection.
    """
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full_error(what, folder, remedy) from error
        if error.errno in _FORBIDDEN_ERRORS:
            raise UserError(f"{what}: no permission to write in {folder}: {remedy}") from error
        if error.errno is None or isinstance(error, ConnectionError | TimeoutError):
            raise
        raise UserError(f"{what}: {error.strerror or error} ({error.filename or folder})") from error


def remove_tree(folder: Path) -> None:
    """Removes a folder with all below it, including what its owner may not write to."""
    if not folder.is_symlink() and folder.is_dir():
        for below in [folder, *folder.rglob("*")]:
            if below.is_dir() and not below.is_symlink():
                with contextlib.suppress(OSError):
                    below.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
