"""Small file systems, to fill up."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.slurm.cluster.commands import run, succeeds
from tests.slurm.cluster.layout import Layout


def prepare(layout: Layout) -> None:
    """Makes a folder in which later mounts are seen by the hosts that start after this."""
    run(["mount", "--bind", layout.filesystems, layout.filesystems])
    run(["mount", "--make-shared", layout.filesystems])


@contextmanager
def small(layout: Layout, path: Path, size_bytes: int) -> Iterator[Path]:
    """A link at `path`, where nothing may be, to an empty file system of that size. Every host sees it."""
    folder = Path(tempfile.mkdtemp(dir=layout.filesystems))
    run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=1777", "tmpfs", folder])
    try:
        path.symlink_to(folder)
        yield path
    finally:
        path.unlink(missing_ok=True)
        # Lazily: a process that is still in there must not keep the test from going on
        run(["umount", "--lazy", folder])
        with contextlib.suppress(OSError):
            folder.rmdir()


def remove(layout: Layout) -> None:
    """Unmounts all that is mounted in the base folder, the last one first."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for escaped in reversed(mounts):
        # The kernel writes spaces as \040
        place = Path(escaped.encode().decode("unicode_escape"))
        if layout.base in place.parents:
            succeeds(["umount", "--lazy", place])
