"""Which failures are the server's, and how long a request waits before it is sent again."""

from __future__ import annotations

import time

PROMPTS = frozenset({400, 413, 422})
"""Statuses that refuse this one prompt: asking again helps nothing. Any other is no prompt's fault."""

LATER = frozenset({425, 429})
"""Statuses that say: come again. So does any with a Retry-After."""

PAUSE_S = 0.5
"""Before a request is sent to a server again at which it failed; doubles each time, up to PAUSE_MAX_S."""
PAUSE_MAX_S = 10.0

RETRY_AFTER_MAX_S = 300.0
"""Longest pause that a server's Retry-After gets."""

LATER_MAX_S = 3600.0
"""How long a request is put off by a server that answers others."""


def is_later(status: int, asked_s: float | None) -> bool:
    """Whether the server says: not now. `asked_s` is its Retry-After."""
    return status in LATER or asked_s is not None


class RetryPolicy:
    """The pauses of one request."""

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self._again = 0
        self._put_off = 0
        self._put_off_since: float | None = None

    def pause(self, status: int, asked_s: float | None) -> float | None:
        """Seconds until the next try after an answer of `status` that asked for `asked_s`; None: no more.

        Who is told to come later is not counted among the tries, but gives up after LATER_MAX_S.
        """
        if is_later(status, asked_s):
            now = time.monotonic()
            self._put_off_since = self._put_off_since or now
            if now - self._put_off_since < LATER_MAX_S:
                self._put_off += 1
                return max(_backoff(self._put_off - 1), min(asked_s or 0.0, RETRY_AFTER_MAX_S))
        if self._again >= self._retries:
            return None
        self._again += 1
        return _backoff(self._again - 1)


def _backoff(times: int) -> float:
    return min(PAUSE_S * 2.0 ** min(times, 30), PAUSE_MAX_S)
