"""The lease protocol under every interleaving, and under crashes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurmeval.servers.folder import ServerFolder, numbered, numbers
from slurmeval.servers.protocol import GIVE_WAY, living
from slurmeval.state.lease import Lease
from tests.unit.servers.interleavings import (
    ANY,
    LEASES,
    SERVERS,
    Violation,
    World,
    check,
    check_closes,
    empty_world,
    explore,
    ready_world,
    settle,
    step,
)


@pytest.mark.parametrize(
    ("world", "switches", "least"),
    [
        pytest.param(ready_world(1, crashes=1), ANY, 8000, id="one lessee, a closing server, a kill"),
        pytest.param(empty_world(2, tries=0), ANY, 4000, id="two lessees, no server yet"),
        pytest.param(ready_world(2, later_tries=0), 2, 15000, id="two lessees, a closing server"),
        pytest.param(empty_world(2, crashes=1, tries=0), 1, 1000, id="two lessees, no server yet, a kill"),
        pytest.param(ready_world(3, later_tries=0), 1, 1000, id="three lessees, a closing server"),
    ],
)
def test_every_interleaving_keeps_the_invariants(world: World, switches: int, least: int) -> None:
    """Every interleaving, or every one with so many switches."""
    assert explore(world, switches) >= least


def look_first_then_write(spec: Any, benchmark: str, controller: Any) -> Any:
    """The mistake that the protocol is there to avoid."""
    names = yield ("list", SERVERS)
    server = numbered(SERVERS, max(numbers(names)))
    if (yield ("list", server)).isdisjoint(GIVE_WAY):
        lease = Lease(server, "m", benchmark, "1", controller)
        yield ("write", LEASES / f"{benchmark}.json", lease)
        return lease
    return Lease(SERVERS / "elsewhere", "m", benchmark, "1", controller)


def close_without_a_second_look(server: Path, leases: Path, controller: Path) -> Any:
    """The same mistake on the server's side."""
    if (yield from living(server, leases, controller)):
        return False
    yield ("create", server / ServerFolder.CLOSING)
    yield ("create", server / ServerFolder.CLOSED)
    return True


def test_looking_before_writing_is_caught() -> None:
    with pytest.raises(Violation, match="which is closed"):
        explore(ready_world(1, acquire=look_first_then_write))


def test_closing_without_a_second_look_is_caught() -> None:
    with pytest.raises(Violation, match="which is closed"):
        explore(ready_world(1, close=close_without_a_second_look))


def scheduled(world: World, choices: list[int], kills: set[int]) -> World:
    """Runs processes in the order that `choices` says; the n-th choice kills where n is in `kills`."""
    for number, choice in enumerate(choices):
        running = [i for i, process in enumerate(world.processes) if process.status == "running"]
        if not running:
            break
        index = running[choice % len(running)]
        if number in kills:
            world = world.with_process(index, replace(world.processes[index], status="killed"))
        else:
            world = step(world, index)
        check(world)
    return world


schedules = st.lists(st.integers(0, 59), max_size=160)
kills = st.sets(st.integers(0, 120), max_size=3)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(choices=schedules, killed=kills, lessees=st.integers(2, 5), started=st.booleans())
def test_any_schedule_with_crashes_settles(
    choices: list[int], killed: set[int], lessees: int, started: bool
) -> None:
    world = ready_world(lessees) if started else empty_world(lessees)
    world = scheduled(world, choices, killed)
    check_closes(settle(world))
