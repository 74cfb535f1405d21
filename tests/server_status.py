"""Waiting for a server's status, which a server that has ended never reaches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slurmeval.state.server import ServerStatus
from tests.waiting import wait_for


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
