"""Evaluations against a server that slurmeval did not start."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.external_server import KEY, Course, course, keep_to
from tests.waiting import wait_for
from tests.workflow.conftest import N_PROBLEMS, Project, processes_in

__all__ = ["course"]


@pytest.fixture
def external(project: Project, course: Course, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project, with its model at the course's server."""
    monkeypatch.setenv("COURSE_KEY", KEY)
    keep_to(course, project.config)
    return project


def where_the_key_is(project: Project) -> list[Path]:
    files = (path for path in project.folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in files if KEY.encode() in path.read_bytes()]


def test_evaluations_run_on_it_and_a_second_run_has_nothing_to_do(external: Project, course: Course) -> None:
    course.start()
    run = external.run()
    assert run.returncode == 0, run.stdout
    rows = external.table("evaluations.parquet")
    assert [(row["status"], row["n_samples"]) for row in rows] == [("ok", N_PROBLEMS)] * 3
    assert len(course.asked()) == 3 * N_PROBLEMS
    (server,) = external.table("servers.parquet")
    assert (server["requests"], server["gpus"]) == (3 * N_PROBLEMS, 0)
    assert where_the_key_is(external) == []
    assert not processes_in(external.folder)

    assert "Nothing to be done" in external.run().stdout
    assert len(course.asked()) == 3 * N_PROBLEMS


def test_after_a_kill_nothing_is_asked_twice(external: Project, course: Course) -> None:
    course.start(STAND_IN_DELAY_S="0.4")
    run = external.start()
    wait_for(lambda: len(course.asked()) >= 4, "answers")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    wait_for(lambda: not processes_in(external.folder), "all processes to go")
    before = len(course.asked())

    again = external.run()
    assert again.returncode == 0, again.stdout
    assert before < 3 * N_PROBLEMS
    # Each of three evaluations may have had one request under way
    assert len(course.asked()) <= 3 * N_PROBLEMS + 3


def test_a_server_gets_parameters_by_its_own_names(external: Project, course: Course) -> None:
    course.start(STAND_IN_FAULT=json.dumps({"status": 400, "text": '"max_tokens"'}))
    external.config["models"]["tiny"]["parameters"] = {"max_tokens": "max_completion_tokens", "seed": None}
    run = external.run()
    assert run.returncode == 0, run.stdout
    rows = external.table("evaluations.parquet")
    assert {row["n_unanswered"] for row in rows} == {0}
    assert json.loads(rows[0]["served_json"])["parameters"] == external.config["models"]["tiny"]["parameters"]


def test_a_server_that_wants_to_be_paid_is_told_as_such_and_not_asked_again(
    external: Project, course: Course
) -> None:
    said = '{"error": {"message": "add credits", "code": "insufficient_quota"}}'
    course.start(STAND_IN_FAULT=json.dumps({"status": 429, "body": said}))
    run = external.run()
    assert run.returncode != 0
    assert "the server answers no more for want of credit (add credits)" in run.stdout
    assert "restart" not in run.stdout
    assert len(course.asked()) <= 1


def test_a_server_that_puts_off_requests_is_asked_again(external: Project, course: Course) -> None:
    course.start(STAND_IN_FAULT='{"status": 429, "one_in": 2, "times": 2}')
    run = external.run()
    assert run.returncode == 0, run.stdout
    assert {row["n_unanswered"] for row in external.table("evaluations.parquet")} == {0}


REFUSED: list[tuple[str, Callable[[Project, pytest.MonkeyPatch], object], str]] = [
    (
        "another key",
        lambda _project, patch: patch.setenv("COURSE_KEY", "another-key-than-that"),
        "the server refuses the key (status 401): see api_key",
    ),
    (
        "another model",
        lambda project, _patch: project.config["models"]["tiny"].update(served_name="no-model"),
        "the server has no model no-model, but their-model",
    ),
    (
        "a budget",
        lambda project, _patch: project.config["servers"]["course"].update(budget={"requests": 2}),
        "the budget of 2 requests is spent: raise servers.<id>.budget",
    ),
]


@pytest.mark.parametrize(("case", "change", "said"), REFUSED, ids=[case for case, _, _ in REFUSED])
def test_why_it_does_not_serve_is_told_in_a_line(
    case: str,
    change: Callable[[Project, pytest.MonkeyPatch], object],
    said: str,
    external: Project,
    course: Course,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    course.start()
    change(external, monkeypatch)
    run = external.run()
    assert run.returncode != 0
    assert said in run.stdout
    assert len(course.asked()) == (2 if case == "a budget" else 0)
    if case == "a budget":  # what was answered is kept, and no more than what is missing is asked for
        external.config["servers"]["course"]["budget"] = {"requests": 1000}
        again = external.run()
        assert again.returncode == 0, again.stdout
        assert len(course.asked()) == 3 * N_PROBLEMS


def test_doctor_asks_it_beforehand(
    external: Project, course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said() -> str:
        external.command()
        doctor = [sys.executable, "-m", "slurmeval", "doctor", "--configfile", "config.yaml"]
        lines = external.run_command(doctor).stdout.splitlines()
        (line,) = (line for line in lines if "server of tiny: " in line)
        return line

    assert said().startswith("bad  server of tiny: the server cannot be reached")
    course.start()
    assert said() == f"ok   server of tiny: {course.url} knows their-model"
    monkeypatch.setenv("COURSE_KEY", "another-key-than-that")
    assert said().startswith("bad  server of tiny: the server refuses the key (status 401): see api_key")
    assert course.asked() == []
