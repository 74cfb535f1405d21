"""Which evaluations come first."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slurmeval.planning.estimate import TimeByLaw
from slurmeval.planning.law import Span
from slurmeval.processes import identity
from slurmeval.servers.slots import stand_in_line, take_slot
from slurmeval.workflow import precedence
from slurmeval.workflow.precedence import MOST, Precedence

LENGTHS = {"short": 10.0, "long": 1000.0, "patching": 5000.0}
"""By earlier runs; of others nothing is known."""


@pytest.fixture
def plan(tmp_path: Path) -> Any:
    benchmarks = ("short", "long", "new", "patching")
    return SimpleNamespace(
        absolute=SimpleNamespace(slots=tmp_path / "slots"),
        benchmarks=list(benchmarks),
        config=SimpleNamespace(
            benchmarks={name: SimpleNamespace(asks_nobody=name == "patching") for name in benchmarks},
            server_of=lambda model, benchmark: model,
        ),
        forecast=SimpleNamespace(expected_s=lambda _, name: SimpleNamespace(seconds=LENGTHS.get(name))),
        order=["one", "two"],
    )


@pytest.fixture(autouse=True)
def unrehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precedence, "estimate", lambda *_, **__: TimeByLaw(None))


def job(model: str, benchmark: str, rule: str = "evaluate") -> Any:
    wildcards = SimpleNamespace(model=model, benchmark=benchmark)
    return SimpleNamespace(rule=SimpleNamespace(name=rule), wildcards=wildcards)


ALL = [job(model, name) for name in ("short", "new", "patching", "long") for model in ("two", "one")]


def names(jobs: list[Any]) -> list[str]:
    return [f"{each.wildcards.model} {each.wildcards.benchmark}" for each in jobs]


def test_models_come_one_after_another_and_of_each_the_longest_first(plan: Any) -> None:
    """What may be long is first, and what asks no server fills the places that are left."""
    found = names(Precedence(plan).longest_first(ALL))
    assert found[:6] == ["one new", "one long", "one short", "two new", "two long", "two short"]
    added = [Precedence(plan).added_priority(each) for each in ALL]
    assert min(added) > 0 and max(added) <= MOST
    assert Precedence(plan).added_priority(job("one", "long", "stage_model")) == 0


def test_a_rehearsal_tells_where_no_run_has(plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precedence, "estimate", lambda *_, **__: TimeByLaw(Span(50, 100)))
    found = names(Precedence(plan).longest_first(ALL))
    assert found[:3] == ["one long", "one new", "one short"]


@pytest.mark.parametrize("error", [OSError(), TypeError("config.json has heads by layer"), ValueError()])
def test_an_estimate_that_cannot_be_made_ends_no_run(
    plan: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> TimeByLaw:
        raise error

    monkeypatch.setattr(precedence, "estimate", fails)
    assert names(Precedence(plan).longest_first(ALL))[:2] == ["one new", "one long"]


def test_the_server_that_is_up_comes_first_then_the_line(plan: Any) -> None:
    slots, me = plan.absolute.slots, identity()
    heartbeats = {
        name: slots.parent / "servers" / f"{name}@2" / "0001" / "state.json" for name in ("one", "two")
    }
    slot = take_slot(slots, 1, me, heartbeats["two"])
    assert slot is not None
    assert names(Precedence(plan).longest_first(ALL))[0] == "two new"
    other = identity(os.getppid())
    place = stand_in_line(slots, other, heartbeats["one"])
    slot.release()
    assert take_slot(slots, 1, me, heartbeats["two"]) is None, "another has waited for longer"
    assert names(Precedence(plan).longest_first(ALL))[0] == "one new"
    assert take_slot(slots, 1, other, heartbeats["one"]) is not None
    place.unlink()
    assert take_slot(slots, 1, me, heartbeats["two"]) is None
