"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from slurmeval.state.server import ServerStatus


def wait_for(condition: Callable[[], Any], what: str, deadline_s: float = 120.0) -> Any:
    """The condition's first true value. Fails, naming `what`, after `deadline_s` seconds."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {deadline_s} s for {what}")


def wait_for_server(
    read: Callable[[], dict[str, Any]], status: str, deadline_s: float = 120.0
) -> dict[str, Any]:
    """A server's state, which `read` returns, once it has the status.

    Fails at once, with the server's reason, if it has ended otherwise.
    """

    def reached() -> bool:
        found = read().get("status")
        assert found in (None, status) or not ServerStatus(found).is_final, f"it ended before it was {status}"
        return bool(found == status)

    try:
        wait_for(reached, f"the status {status}", deadline_s)
    except AssertionError as error:
        raise AssertionError(f"{error}; the server's state is {read()}") from None
    return read()
