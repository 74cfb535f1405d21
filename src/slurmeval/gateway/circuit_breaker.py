"""Gives an evaluation up when the server fails request after request."""

from __future__ import annotations

import time
from dataclasses import dataclass

FAILURES_TO_TRIP = 20
TRIP_AFTER_S = 60.0
"""Gives up after 20 failures in a row that span 60 s."""

SLOW_FAILURES_TO_TRIP = 3
SLOW_TRIP_AFTER_S = 600.0
"""The same for harnesses that ask seldom (NeMo's bfcl waits 65 s after an error)."""


@dataclass
class CircuitBreaker:
    """Failures since the last good answer.

    A failure is an answer of 5xx, one that is none, a broken connection, or an answer for another model,
    after all retries; and each refusal that is not the prompt's fault. A request that took too long is
    neither.
    """

    lost: str | None = None
    """Why no server was left when a request was refused."""
    failures: int = 0
    _since: float = 0.0
    _error: str = ""
    _mixed: bool = False
    _server_id: str = ""

    def answered(self) -> None:
        """Counts a good answer."""
        if self.failures:
            self.failures, self._mixed = 0, False

    def failed(self, error: str, server_id: str) -> None:
        """Counts a failure."""
        if self.failures == 0:
            self._since = time.monotonic()
        elif _kind(error) != _kind(self._error):
            self._mixed = True
        self.failures += 1
        self._error, self._server_id = error, server_id

    def reason(self) -> str | None:
        """Returns how the last requests failed; None: the last one was answered."""
        if self.lost is not None or not self.failures:
            return self.lost
        seconds = time.monotonic() - self._since
        how = f"{self.failures} in a row over {seconds:.0f} s, the last at {self._server_id}"
        if self._error.startswith("the server answered ") and not self._mixed:
            what, colon, said = self._error.replace("answered", "answers", 1).partition(": ")
            return f"{what}{' to everything' if self.failures > 1 else ''} ({how}){colon}{said}"
        return f"requests fail ({how}); the last: {self._error}"

    def failure(self) -> str | None:
        """Returns why no more good answers are to be expected; None: they are."""
        seconds = time.monotonic() - self._since
        many = self.failures >= FAILURES_TO_TRIP and seconds >= TRIP_AFTER_S
        few = self.failures >= SLOW_FAILURES_TO_TRIP and seconds >= SLOW_TRIP_AFTER_S
        return self.reason() if self.lost is not None or many or few else None


def _kind(error: str) -> str:
    """Returns an error without what the server said, in which each may have a number of its own."""
    return error.partition(": ")[0]
