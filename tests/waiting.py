"""Waiting for a condition instead of for a time. Needs no package: a fresh machine begins with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def wait_for(condition: Callable[[], Any], what: str, deadline_s: float = 120.0) -> Any:
    """The condition's first true value. Fails, naming `what`, after `deadline_s` seconds."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {deadline_s} s for {what}")
