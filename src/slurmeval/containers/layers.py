"""An image's layers on the disk while it is pulled: their bytes, the space they need, and progress."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from slurmeval import disk
from slurmeval.containers.registry import Layer
from slurmeval.progress import Progress, Transfer, duration_text, size_text

UNPACKED_RATIO = 3.0
"""Upper bound of an unpacked image's size over that of its compressed layers."""
SIF_RATIO = 1.2
"""Upper bound of a SIF's size over that of its compressed layers."""
REMEDY = "set staging.images to another place"
_HEX_DIGITS = 64


def downloaded_bytes(blobs: Path, layers: Sequence[Layer]) -> int:
    """Returns the bytes of these layers that lie in the folder `blobs`.

    A file that is still being written has more after the layer's digest in its name.
    """
    total = 0
    for layer in layers:
        name = layer.digest.removeprefix("sha256:")
        sizes = [0]
        for file in blobs.glob(f"{name}*"):
            with contextlib.suppress(FileNotFoundError):  # renamed since it was listed
                sizes.append(file.stat().st_size)
        total += min(layer.size, max(sizes))
    return total


def remove_partial(blobs: Path) -> None:
    """Removes layers that a killed pull had not finished. Whole ones stay."""
    for file in blobs.glob("*"):
        if len(file.name) != _HEX_DIGITS:
            file.unlink(missing_ok=True)


def require_space(what: str, folder: Path, layers: Sequence[Layer], downloaded: int) -> None:
    """Checks that `folder` has space for the missing layers, the unpacked image and the SIF.

    Raises:
        UserError: There is not enough.
    """
    size = sum(layer.size for layer in layers)
    missing, unpacked, sif = size - downloaded, size * UNPACKED_RATIO, size * SIF_RATIO
    details = f"layers {size_text(missing)}, unpacked about {size_text(unpacked)}, SIF about {size_text(sif)}"
    disk.require_space(what, folder, int(missing + unpacked + sif), REMEDY, details)


class PullProgress:
    """Reports how far a pull is: first the layers, then how long the image has been building."""

    def __init__(self, what: str, blobs: Path, layers: Sequence[Layer], progress: Progress) -> None:
        """Begins with what lies in `blobs` already."""
        self.what, self.progress = what, progress
        self.total = sum(layer.size for layer in layers)
        self.download = Transfer(what, progress, self.total, lambda: downloaded_bytes(blobs, layers))
        self.build_started: float | None = None

    def report(self, _seconds: float = 0) -> None:
        """Reports the present state."""
        if self.download.done < self.total:
            self.progress(self.download.line())
            return
        now = time.monotonic()
        self.build_started = self.build_started or now
        built = duration_text(now - self.build_started)
        self.progress(f"{self.what}: all layers are here; building, {built}")
