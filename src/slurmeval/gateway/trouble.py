"""When requests fail one after the other: whether the evaluation behind this gateway can still end well."""

from __future__ import annotations

import time
from dataclasses import dataclass

MANY = 20
"""Failed requests in a row that are the server's fault, not theirs …"""
MANY_S = 60.0
"""… if there was no good answer for so long either."""

FEW = 3
"""A harness that asks seldom (NeMo's bfcl waits 65 s after an error) gets there by time …"""
FEW_S = 600.0
"""… so long without a good answer."""


@dataclass
class Trouble:
    """Failures since the last good answer. A failure is an answer of 5xx, one that is none, a broken
    connection, or an answer for another model, after all retries; and each refusal that is not the prompt's
    fault. A request that took too long is neither."""

    lost: str | None = None
    """A request was refused because no server was left: why."""
    failures: int = 0
    _since: float = 0.0
    _error: str = ""
    _mixed: bool = False
    _server_id: str = ""

    def answered(self) -> None:
        if self.failures:
            self.failures, self._mixed = 0, False

    def failed(self, error: str, server_id: str) -> None:
        if self.failures == 0:
            self._since = time.monotonic()
        elif error != self._error:
            self._mixed = True
        self.failures += 1
        self._error, self._server_id = error, server_id

    def reason(self) -> str | None:
        """What the last requests failed of; None: the last one was answered."""
        if self.lost is not None or not self.failures:
            return self.lost
        seconds = time.monotonic() - self._since
        how = f"{self.failures} in a row over {seconds:.0f} s, the last at {self._server_id}"
        if self._error.startswith("the server answered ") and not self._mixed:
            what = self._error.replace("answered", "answers", 1)
            return f"{what} to everything ({how})" if self.failures > 1 else f"{what} ({how})"
        return f"requests fail ({how}); the last: {self._error}"

    def failure(self) -> str | None:
        """Why no more good answers are to be expected, or None."""
        seconds = time.monotonic() - self._since
        many = self.failures >= MANY and seconds >= MANY_S
        few = self.failures >= FEW and seconds >= FEW_S
        return self.reason() if self.lost is not None or many or few else None
