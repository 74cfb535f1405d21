"""What a supervisor tells, so that a killed one's engine run is not lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slurmeval.engines.base import Figures
from slurmeval.files import read_json, write_json
from slurmeval.servers.accounting import CUT_OFF, EngineRun, append_engine_run
from slurmeval.servers.folder import ServerFolder
from slurmeval.servers.job import BatchJob
from slurmeval.servers.state import Published
from slurmeval.state.server import ServerStatus
from tests.engine_runs import engine_runs_of

JOB = BatchJob("7", 0, "gpu1", 0, 1e9)


@pytest.fixture
def folder(tmp_path: Path) -> ServerFolder:
    path = tmp_path / "m" / "0001"
    path.mkdir(parents=True)
    return ServerFolder(path)


def told(folder: ServerFolder) -> Any:
    return read_json(folder.state)["under_way"]


def served(published: Published, number: int) -> EngineRun:
    """An engine run that was busy for 3 s and idle for 2 s, and has told so."""
    engine_run = EngineRun(number, started=100.0)
    published.begin(engine_run)
    engine_run.ready = 160.0
    for second in range(6):
        running = 1 if 0 < second <= 3 else 0
        engine_run.sample(
            Figures(generated_tokens=10, prompt_tokens=5, requests_running=running), 161.0 + second
        )
    published.take_in(engine_run)
    published.change(ServerStatus.READY)
    return engine_run


def test_the_engine_run_under_way_stands_in_the_state(folder: ServerFolder) -> None:
    published = Published(folder, JOB, 4)
    published.change(ServerStatus.PENDING)
    assert told(folder) is None
    engine_run = served(published, 1)
    assert told(folder).items() >= {"engine_run": 1, "busy_s": 3.0, "idle_s": 2.0, "starting_s": 60.0}.items()
    published.end(engine_run, "no lease is left")
    published.change(ServerStatus.STOPPED)
    assert told(folder) is None
    assert [line["busy_s"] for line in engine_runs_of(folder)] == [3.0]


def test_the_next_supervisor_books_an_engine_run_that_was_killed(folder: ServerFolder) -> None:
    served(Published(folder, JOB, 4), 1)
    published = Published(folder, JOB, 4)
    (line,) = engine_runs_of(folder)
    assert (line["engine_run"], line["busy_s"], line["exit_reason"], line["ended_at"]) == (
        1,
        3.0,
        CUT_OFF,
        None,
    )
    assert (line["job_id"], line["restart"], line["node"]) == ("7", 0, "gpu1")
    assert line["seen_at"] is not None
    assert published.engine_runs == 1
    published.change(ServerStatus.PENDING)
    assert read_json(folder.state)["generated_tokens"] == 10
    Published(folder, JOB, 4)
    assert len(engine_runs_of(folder)) == 1


def test_an_engine_run_is_booked_once_when_its_supervisor_was_killed_right_after(
    folder: ServerFolder,
) -> None:
    """The line is written, the state is not yet."""
    engine_run = served(Published(folder, JOB, 4), 1)
    append_engine_run(folder.engine_runs, engine_run.ended("requeued", 170.0, JOB))
    Published(folder, JOB, 4)
    assert [line["exit_reason"] for line in engine_runs_of(folder)] == ["requeued"]


def test_what_an_earlier_version_wrote_of_engine_runs_is_read(folder: ServerFolder) -> None:
    told = {"started_at": "2026-11-01T10:00:00+00:00", "busy_s": 3.0, "generated_tokens": 7, "requests": 2}
    (folder.path / "lives.jsonl").write_text(json.dumps({"life": 1, "exit_reason": "requeued"} | told) + "\n")
    write_json(folder.state, {"status": "ready", "life": 2, "under_way": {"life": 2} | told})
    published = Published(folder, JOB, 4)
    assert published.engine_runs == 2
    found = [
        (run["engine_run"], run["generated_tokens"], run["exit_reason"]) for run in engine_runs_of(folder)
    ]
    assert found == [(1, 7, "requeued"), (2, 7, CUT_OFF)]
