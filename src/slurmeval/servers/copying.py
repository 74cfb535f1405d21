"""Copying files as fast as the disks do: by the kernel, several at once, with a line now and then."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from slurmeval.progress import REPORT_INTERVAL_S, Progress, size_text

THREADS = 8
"""Files that are copied at once."""

CHUNK = 32 << 20
"""Bytes between two looks at whether the copying is to stop."""

NOT_BETWEEN_THESE = {
    *(errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ETXTBSY)
}
"""How the kernel says that it cannot copy between two file systems in this way."""

Pause = Callable[[float], None]
"""Waits for so many seconds, perhaps none. What it raises ends the waiting or the copying."""


class Changed(Exception):
    """A file does not have the size that it had; the text says which."""


def copy_files(
    what: str, files: Sequence[tuple[Path, Path, int]], progress: Progress, pause: Pause = time.sleep
) -> None:
    """Copies each (from, to, size), `to` being in a folder that is there and free. Raises the first error
    (OSError, Changed), or what `pause` raises, once all threads have stopped; what was copied stays."""
    _Work(what, sum(size for _, _, size in files), progress, pause).run(files)


@dataclass
class _Work:
    """Files that are copied by several threads, while this one looks on."""

    what: str
    size: int
    progress: Progress
    pause: Pause
    done: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, files: Sequence[tuple[Path, Path, int]]) -> None:
        largest_first = sorted(files, key=lambda file: -file[2])
        with ThreadPoolExecutor(THREADS) as pool:
            left = {pool.submit(self._one, *file) for file in largest_first}
            try:
                self._look_on(left)
            finally:
                self.stop.set()
                pool.shutdown(cancel_futures=True)

    def _look_on(self, left: set[Future[None]]) -> None:
        started = told = time.monotonic()
        while left:
            ended, left = wait(left, timeout=0.2)
            for future in ended:
                future.result()
            self.pause(0)
            now = time.monotonic()
            if left and now - told > REPORT_INTERVAL_S:
                told, rate = now, self.done / (now - started)
                self.progress(
                    f"{self.what}: {size_text(self.done)} of {size_text(self.size)}, {size_text(rate)}/s"
                )

    def _one(self, source: Path, target: Path, size: int) -> None:
        copied = 0
        with source.open("rb", buffering=0) as read, target.open("xb", buffering=0) as write:
            for chunk in chunks(read.fileno(), write.fileno()):
                copied += chunk
                with self.lock:
                    self.done += chunk
                if self.stop.is_set():
                    return
        if copied != size:
            raise Changed(f"{source} had {size} bytes, and now has {copied}: it is being changed")


def chunks(read: int, write: int) -> Iterator[int]:
    """Copies a file from one descriptor to another to its end, and gives the bytes of each step."""
    ways: list[Callable[[], int]] = [
        lambda: os.copy_file_range(read, write, CHUNK),
        lambda: os.sendfile(write, read, None, CHUNK),
        lambda: _written(write, os.read(read, CHUNK)),
    ]
    begun = False
    while ways:
        try:
            step = ways[0]()
        except OSError as error:
            if begun or len(ways) == 1 or error.errno not in NOT_BETWEEN_THESE:
                raise
            del ways[0]
            continue
        if step == 0 and (begun or len(ways) == 1):
            return
        if step == 0:  # the file is empty, or the kernel says so of a file system that it does not read well
            del ways[0]
            continue
        begun = True
        yield step


def _written(write: int, content: bytes) -> int:
    left = memoryview(content)
    while left:
        left = left[os.write(write, left) :]
    return len(content)
