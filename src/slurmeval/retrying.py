"""Asking a server again while it is busy, or while the network is broken."""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from slurmeval.progress import Progress

BUSY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses of a server that may answer later."""
WAIT_LIMIT_S = 300.0
"""A server that asks for a longer wait is not asked again."""
BACKOFF_LIMIT_S = 60.0

T = TypeVar("T")


@dataclass(frozen=True)
class Retry:
    """A further attempt after `wait_s` seconds."""

    reason: str
    wait_s: float


def call_with_retries(
    what: str,
    action: Callable[[], T],
    judge: Callable[[T | Exception, int], Retry | None],
    progress: Progress,
    attempts: int,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Returns the result of `action`, which is called again as long as `judge` says so.

    Args:
        what: Begins each line of progress.
        action: The call.
        judge: Gets what `action` returned or raised, and the number of the attempt, from 1. Returns None if
            that is final.
        progress: Takes a line before each wait.
        attempts: Largest number of calls. The last one's result or error is final.
        sleep: Waits.

    Raises:
        Exception: What the last attempt raised.
    """
    for number in range(1, attempts):
        try:
            result = action()
        except Exception as error:
            if (retry := judge(error, number)) is None:
                raise
        else:
            if (retry := judge(result, number)) is None:
                return result
        progress(f"{what}: {retry.reason}; again in {retry.wait_s:.0f} s")
        sleep(retry.wait_s)
    return action()


def backoff_s(attempt: int) -> float:
    """Returns the wait after a failed attempt (from 1): 1, 2, 4, … seconds, up to 20 % more or less."""
    return float(min(BACKOFF_LIMIT_S, 2.0 ** (attempt - 1)) * random.uniform(0.8, 1.2))


def requested_wait_s(headers: Mapping[str, str]) -> float | None:
    """Returns the longest wait that an answer's headers ask for, or None if they ask for none.

    `X-RateLimit-Reset…` counts where nothing else asks: it tells when a limit is whole again, not when the
    next request fits.
    """
    milliseconds = headers.get("Retry-After-Ms", "").strip()
    waits = [
        retry_after_s(headers.get("Retry-After")),
        float(milliseconds) / 1000 if milliseconds.isdecimal() else None,
        rate_limit_s(headers),
    ]
    asked = max((seconds for seconds in waits if seconds is not None), default=None)
    return _limits_reset_s(headers) if asked is None else asked


def retry_after_s(header: str | None) -> float | None:
    """Returns the wait that a `Retry-After` header asks for (RFC 9110: seconds or a date).

    Returns None if there is no header, or an unreadable one.
    """
    text = (header or "").strip()
    if text.replace(".", "", 1).isdecimal():
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except ValueError:
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())


def rate_limit_s(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds until a used-up request limit is reset, or None if the headers name no limit.

    Reads `RateLimit: "api";r=0;t=280` (IETF draft ratelimit-headers) and the older `reset=280` and
    `RateLimit-Reset: 280`.
    """
    policies = headers.get("RateLimit", "").split(",")
    used_up = [policy for policy in policies if re.search(r"\br\s*=\s*0\b", policy)] or policies
    found = [int(t) for policy in used_up for t in re.findall(r"\b(?:t|reset)\s*=\s*(\d+)", policy)]
    if (reset := headers.get("RateLimit-Reset", "").strip()).isdecimal():
        found.append(int(reset))
    return float(max(found)) if found else None


_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([\d.]+)(ms|s|m|h)")
_EPOCH_S = 1e9
"""Seconds since 1970 are more than this, and no wait is."""


def _limits_reset_s(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds until a limit of an inference API is reset, or None if no header names one.

    Of several limits (`x-ratelimit-reset-requests: 1s`, `x-ratelimit-reset-tokens: 6m0s`) those count of
    which nothing remains. Where something remains of all, the soonest does.
    """
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    waits = {
        name.removeprefix("x-ratelimit-reset"): seconds
        for name, value in lower.items()
        if name.startswith("x-ratelimit-reset") and (seconds := _duration_s(value)) is not None
    }
    used_up = [s for limit, s in waits.items() if lower.get(f"x-ratelimit-remaining{limit}") == "0"]
    return max(used_up) if used_up else min(waits.values(), default=None)


def _duration_s(text: str) -> float | None:
    """Returns a wait written as `6m0s`, as seconds, or as a time in seconds or milliseconds since 1970."""
    try:
        if parts := _DURATION.findall(text):
            whole = "".join(number + unit for number, unit in parts) == text
            return sum(float(number) * _UNITS_S[unit] for number, unit in parts) if whole else None
        seconds = float(text)
    except ValueError:
        return None
    if not math.isfinite(seconds) or seconds < 0:
        return None
    if seconds > 1000 * _EPOCH_S:
        seconds /= 1000
    return max(0.0, seconds - time.time()) if seconds > _EPOCH_S else seconds
