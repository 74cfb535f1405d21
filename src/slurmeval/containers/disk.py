"""The disk that images are pulled to: room, progress, and its failures in one line."""

from __future__ import annotations

import contextlib
import errno
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from slurmeval.build_once import Progress
from slurmeval.containers.registry import Layer
from slurmeval.errors import UserError

UNPACKED = 3.0
"""An image unpacked takes so many times its compressed layers, to be on the safe side."""
PACKED = 1.2
"""… and as a SIF."""
REMEDY = "make room, or set staging.images to another place"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_HEX_DIGITS = 64


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def fetched(blobs: Path, layers: Sequence[Layer]) -> int:
    """Bytes of these layers that lie in the folder `blobs`, whole or coming: a file that is still being
    written has more after the layer's digest in its name."""
    total = 0
    for layer in layers:
        name = layer.digest.removeprefix("sha256:")
        sizes = [0]
        for file in blobs.glob(f"{name}*"):
            with contextlib.suppress(FileNotFoundError):  # renamed while we looked
                sizes.append(file.stat().st_size)
        total += min(layer.size, max(sizes))
    return total


def remove_partial(blobs: Path) -> None:
    """Removes layers that a killed pull had not finished; whole ones stay."""
    for file in blobs.glob("*"):
        if len(file.name) != _HEX_DIGITS:
            file.unlink(missing_ok=True)


def need_room(what: str, folder: Path, layers: Sequence[Layer], there: int) -> None:
    """Raises UserError unless `folder` has room for what is missing of the layers, the unpacked image and the
    SIF."""
    size = sum(layer.size for layer in layers)
    missing, unpacked, sif = size - there, size * UNPACKED, size * PACKED
    free = shutil.disk_usage(folder).free
    if free < missing + unpacked + sif:
        raise UserError(
            f"{what}: {gigabytes(missing + unpacked + sif)} are needed in {folder} "
            f"(layers {gigabytes(missing)}, unpacked about {gigabytes(unpacked)}, "
            f"SIF about {gigabytes(sif)}), {gigabytes(free)} are free: {REMEDY}"
        )


class Meter:
    """Says how far a pull is: what has come of its layers, how fast, and how long that will take; then that
    the image is being built."""

    def __init__(self, what: str, blobs: Path, layers: Sequence[Layer], progress: Progress) -> None:
        self.what, self.blobs, self.layers, self.progress = what, blobs, layers, progress
        self.total = sum(layer.size for layer in layers)
        self.before, self.started = fetched(blobs, layers), time.monotonic()
        self.built_since: float | None = None

    def say(self, _seconds: float = 0) -> None:
        """A line on how it stands now."""
        come, now = fetched(self.blobs, self.layers), time.monotonic()
        if come < self.total:
            rate = (come - self.before) / max(now - self.started, 0.001)
            left = f", {_duration((self.total - come) / rate)} left" if rate > 0 else ""
            self.progress(
                f"{self.what}: {gigabytes(come)} of {gigabytes(self.total)}, {gigabytes(rate)}/s{left}"
            )
            return
        self.built_since = self.built_since or now
        self.progress(f"{self.what}: all layers are here; building, {_duration(now - self.built_since)}")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is a full disk or quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def full(what: str, folder: Path) -> UserError:
    return UserError(f"{what}: the disk is full or over quota in {folder}: {REMEDY}")


@contextmanager
def disk_errors(what: str, folder: Path) -> Iterator[None]:
    """Turns a failing disk into one line (UserError)."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full(what, folder) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise UserError(f"{what}: no permission to write in {folder}: set staging.images") from error
        raise UserError(f"{what}: {error.strerror or error} ({error.filename or folder})") from error


def remove_tree(folder: Path) -> None:
    """Removes a folder with all below it, also what an image forbids its owner to write to."""
    if not folder.is_symlink() and folder.is_dir():
        for below in [folder, *folder.rglob("*")]:
            if below.is_dir() and not below.is_symlink():
                with contextlib.suppress(OSError):
                    below.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
