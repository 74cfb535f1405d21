"""Who gets a slot."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from slurmeval.processes import identity
from slurmeval.servers.slots import served, someone_waits, stand_in_line, take_slot
from slurmeval.state.owner import Owner

ME, PARENT = identity(), identity(os.getppid())
DEAD = replace(ME, started=1)


def heartbeat(slots: Path, name: str) -> Path:
    return slots.parent / name / "state.json"


@pytest.mark.parametrize("order", [(ME, PARENT), (PARENT, ME)], ids=["me first", "parent first"])
def test_slot_goes_to_the_server_that_has_waited_for_longest(
    tmp_path: Path, order: tuple[Owner, Owner]
) -> None:
    slots = tmp_path / "slots"
    for seconds, (name, owner) in enumerate(zip(("first", "second"), order, strict=True)):
        place = stand_in_line(slots, owner, heartbeat(slots, name))
        os.utime(place, (seconds, seconds))
    assert served(slots) == [heartbeat(slots, "first"), heartbeat(slots, "second")]
    assert take_slot(slots, 1, order[1], heartbeat(slots, "second")) is None
    assert take_slot(slots, 1, order[0], heartbeat(slots, "first")) is not None


def test_a_place_in_line_whose_server_died_holds_nobody_up(tmp_path: Path) -> None:
    slots = tmp_path / "slots"
    stand_in_line(slots, DEAD, heartbeat(slots, "dead"))
    (slots / "waiting" / "cut-short.json").write_text('{"owner": {')
    os.utime(slots / "waiting" / "cut-short.json", (0, 0))
    assert not someone_waits(slots)
    assert take_slot(slots, 1, ME, heartbeat(slots, "mine")) is not None
    assert served(slots) == [heartbeat(slots, "mine")]
