"""A server's statuses: which take lessees, which are final, and what follows what."""

from __future__ import annotations

import pytest

from slurmeval.state.server import ServerStatus

WRITTEN = [status for status in ServerStatus if status is not ServerStatus.SILENT]


@pytest.mark.parametrize("status", ServerStatus, ids=str)
def test_final_statuses_have_no_successors_and_take_nobody(status: ServerStatus) -> None:
    if status.is_final:
        assert not status.successors
        assert not status.accepts_lessees


def test_every_status_but_the_one_that_is_only_shown_is_reached_and_ends() -> None:
    reached, new = set[ServerStatus](), {ServerStatus.PENDING}
    while new:
        reached |= new
        new = {after for status in new for after in status.successors} - reached
    assert reached == set(WRITTEN)
    for status in WRITTEN:
        assert status.is_final or any(after.is_final for after in status.successors)


def test_server_that_drains_takes_nobody_and_does_not_serve_again() -> None:
    assert not ServerStatus.DRAINING.accepts_lessees
    assert not ServerStatus.DRAINING.may_become(ServerStatus.READY)
    assert ServerStatus.RESTARTING.may_become(ServerStatus.STARTING)
