"""Telling the user how far a long action is."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

Progress = Callable[[str], None]
"""Takes one line for the user."""

REPORT_INTERVAL_S = 5.0


def to_stderr(line: str) -> None:
    """Prints a line on standard error."""
    print(line, file=sys.stderr, flush=True)


def size_text(size: float) -> str:
    """Returns a number of bytes as a person reads it, such as `3.2 GB`."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def duration_text(seconds: float) -> str:
    """Returns a time span as a person reads it, such as `90 s` or `3 min`."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def age_text(since: str | None) -> str:
    """Returns the time from an ISO time to now, such as `1 h 05 min`."""
    try:
        then = datetime.fromisoformat(since or "")
    except ValueError:
        return ""
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    seconds = max(0, int((datetime.now(UTC) - then).total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"


class Transfer:
    """Bytes that are being copied, downloaded or read.

    As a context manager it reports every `REPORT_INTERVAL_S` seconds, in a thread of its own, how many bytes
    are done, how fast, and how long the rest will take.
    """

    def __init__(
        self,
        what: str,
        progress: Progress,
        total: int | None = None,
        measure: Callable[[], int] | None = None,
    ) -> None:
        """Begins at what `measure` returns now, or at 0.

        Args:
            what: Begins each line.
            progress: Takes the lines.
            total: Bytes in all, if known.
            measure: Returns the bytes that are done. Without it `add` counts them.
        """
        self.what, self.progress, self.total = what, progress, total
        self._measure, self._added = measure, 0
        self._lock, self._ended = threading.Lock(), threading.Event()
        self.begin = self.done
        self._started = time.monotonic()

    @property
    def done(self) -> int:
        """Bytes that are done."""
        return self._added if self._measure is None else self._measure()

    def add(self, size: int) -> None:
        """Counts `size` more bytes."""
        with self._lock:
            self._added += size

    def line(self) -> str:
        """Returns a line on how far it is."""
        done = self.done
        rate = (done - self.begin) / max(time.monotonic() - self._started, 0.001)
        if self.total is None:
            return f"{self.what}: {size_text(done - self.begin)}, {size_text(rate)}/s"
        left = f", {duration_text((self.total - done) / rate)} left" if rate > 0 else ""
        return f"{self.what}: {size_text(done)} of {size_text(self.total)}, {size_text(rate)}/s{left}"

    def __enter__(self) -> Transfer:
        """Starts the reports."""
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._report, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the reports."""
        self._ended.set()
        self._thread.join()

    def _report(self) -> None:
        while not self._ended.wait(REPORT_INTERVAL_S):
            self.progress(self.line())
