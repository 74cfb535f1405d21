"""Asking a registry again while it is busy, or while the network is."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import requests

from slurmeval.build_once import Progress

BUSY = (408, 425, 429, 500, 502, 503, 504)
TRIES = 6
CONNECTION_TRIES = 4
LONGEST_S = 300.0
"""A registry that asks for more patience is not waited for."""

_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
T = TypeVar("T")


class Patience:
    """Asks again after as long as the registry says, else after 1, 2, 4, … seconds, give or take."""

    def __init__(self, what: str, progress: Progress, sleep: Callable[[float], None] = time.sleep) -> None:
        self.what, self.progress, self.sleep = what, progress, sleep

    def call(self, action: Callable[[], T]) -> T:
        """The answer of `action`, which has `status` and `headers`; the last, where patience ends. Raises
        what the last try raised."""
        for number in range(1, TRIES):
            try:
                answer: Any = action()
            except _BROKEN as error:
                if isinstance(error, requests.exceptions.SSLError) or number >= CONNECTION_TRIES:
                    raise
                reason, wait_s = "no connection", backoff_s(number)
            else:
                if answer.status not in BUSY:
                    return answer  # type: ignore[no-any-return]
                asked_s = told_s(answer.headers)
                wait_s = backoff_s(number) if asked_s is None else asked_s
                if wait_s > LONGEST_S:
                    return answer  # type: ignore[no-any-return]
                reason = f"the registry answers {answer.status}"
            self.progress(f"{self.what}: {reason}; again in {wait_s:.0f} s")
            self.sleep(wait_s)
        return action()


def told_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, by the headers of an answer that was none; None where they do not say."""
    told = [retry_after_s(headers.get("Retry-After")), rate_limit_s(headers)]
    return max((seconds for seconds in told if seconds is not None), default=None)


def rate_limit_s(headers: Mapping[str, str]) -> float | None:
    """Seconds until a limit on requests that is used up counts anew, by `RateLimit`
    (`"api";r=0;t=280`, or as older servers write it); None without one."""
    policies = headers.get("RateLimit", "").split(",")
    used_up = [policy for policy in policies if re.search(r"\br\s*=\s*0\b", policy)] or policies
    found = [int(t) for policy in used_up for t in re.findall(r"\b(?:t|reset)\s*=\s*(\d+)", policy)]
    if (reset := headers.get("RateLimit-Reset", "").strip()).isdecimal():
        found.append(int(reset))
    return float(max(found)) if found else None


def backoff_s(number: int) -> float:
    """Seconds to wait after the `number`-th failure."""
    return float(min(60.0, 2.0 ** (number - 1)) * random.uniform(0.8, 1.2))


def retry_after_s(header: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for (a number or a date); None without a readable one."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
