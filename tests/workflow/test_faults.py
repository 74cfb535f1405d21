"""Faults, each caused for real in the middle of a run: nothing is lost, and nothing is left running."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable

from tests.server_status import wait_for_server
from tests.waiting import wait_for
from tests.workflow.conftest import N_PROBLEMS, Project, processes_in

GONE_S = 120


def under_way(project: Project, answers: int = 3) -> Callable[[], bool]:
    """Whether so many answers have been given (a probe among them), and more are to come."""
    return lambda: sum(project.answered().values()) >= answers


def assert_complete(project: Project) -> None:
    rows = project.table("evaluations.parquet")
    assert [(row["status"], row["n_samples"]) for row in rows] == [("ok", N_PROBLEMS)] * 3
    for row in rows:
        samples = project.table(f"samples/tiny/{row['benchmark']}.parquet")
        assert len({sample["sample_uid"] for sample in samples}) == N_PROBLEMS


def test_a_killed_engine_is_started_again_and_no_answered_request_is_asked_again(project: Project) -> None:
    project.delay(0.5)
    run = project.start()
    wait_for(under_way(project), "answers")
    (engine,) = project.engines()
    os.kill(engine, signal.SIGKILL)
    assert run.wait(240) == 0, (project.folder / "run.log").read_text()
    assert_complete(project)
    answered = [
        row for name in ("first", "second", "third") for row in project.table(f"requests/tiny/{name}.parquet")
    ]
    whole = [row["request_key"] for row in answered if row["http_status"] == 200]
    # each of the three benchmarks asks the same questions, once
    assert len(whole) == 3 * N_PROBLEMS
    assert {row["engine_run"] for row in project.table("servers.parquet")} == {1, 2}


def test_after_a_killed_snakemake_the_server_goes_and_the_plain_command_carries_on(project: Project) -> None:
    project.delay(0.5)
    run = project.start()
    wait_for(under_way(project, 4), "answers")
    run.send_signal(signal.SIGKILL)
    run.wait()
    wait_for(lambda: not processes_in(project.folder), "all processes to go", GONE_S)
    before = project.answered()

    again = project.run()
    assert again.returncode == 0, again.stdout
    assert_complete(project)
    # Each of three evaluations asks the same questions; at most what each had in flight (one) was asked twice
    problems = [count for count in project.answered().values() if count > 2]
    assert sum(problems) <= 3 * N_PROBLEMS + 3
    assert sum(before.values()) > 1


def test_a_stopped_run_leaves_nothing_running_and_carries_on(project: Project) -> None:
    project.delay(0.5)
    run = project.start()
    wait_for(under_way(project), "answers")
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(60) != 0
    wait_for(lambda: not processes_in(project.folder), "all processes to go", GONE_S)
    assert not (project.results / "state" / "controller.json").exists()
    said = (project.folder / "run.log").read_text()
    kept = re.search(
        r"^stopped; (\d+) answers? (?:is|are) kept; the same command carries on$", said, re.MULTILINE
    )
    assert kept is not None, said
    assert int(kept[1]) >= 1
    assert "failed" not in said.lower()
    assert "RuleException" not in said
    assert {row["status"] for row in project.table("evaluations.parquet")} == {"stopped"}
    status = project.run_command([sys.executable, "-m", "slurmeval", "status"])
    assert "3 evaluations: 3 stopped. The same command carries on." in status.stdout
    assert "3 stopped" in (project.results / "report" / "index.html").read_text()
    again = project.run()
    assert again.returncode == 0, again.stdout
    assert "answers of earlier tries" in again.stdout
    assert_complete(project)


def test_a_killed_supervisor_is_replaced(project: Project) -> None:
    project.delay(0.5)
    run = project.start()
    wait_for(under_way(project), "answers")
    os.kill(project.server_state()["owner"]["pid"], signal.SIGKILL)
    assert run.wait(240) == 0, (project.folder / "run.log").read_text()
    assert_complete(project)
    wait_for(lambda: not processes_in(project.folder), "all processes to go", GONE_S)


def test_a_server_stopped_by_hand_cancels_and_the_next_run_carries_on(
    project: Project,
) -> None:
    project.delay(5)
    run = project.start()
    wait_for(under_way(project), "answers")
    stop = project.run_command([sys.executable, "-m", "slurmeval", "stop"])
    assert stop.returncode == 0, stop.stdout
    assert run.wait(60) != 0
    assert {row["error_class"] for row in project.table("evaluations.parquet")} == {"cancelled"}
    assert len(project.table("servers.parquet")) == 1
    project.delay(0)
    assert project.run().returncode == 0
    assert_complete(project)


def test_a_second_run_in_the_folder_says_so_and_stops(project: Project) -> None:
    project.delay(20)
    run = project.start()
    wait_for_server(project.server_state, "ready")
    second = project.run()
    assert second.returncode != 0
    assert "another run is under way in this folder" in second.stdout
    deleting = project.run("--delete-temp-output")  # leases are temporary files
    assert deleting.returncode != 0
    assert "a run is under way in this folder" in deleting.stdout
    assert run.wait(240) == 0
    assert_complete(project)


def test_runs_in_two_folders_leave_each_other_alone(make_project: Callable[[str], Project]) -> None:
    projects = [make_project("one"), make_project("two")]
    for project in projects:
        project.delay(0.3)
    runs = [project.start() for project in projects]
    wait_for(lambda: all(under_way(project)() for project in projects), "answers in both")
    os.kill(projects[0].engines()[0], signal.SIGKILL)
    assert [run.wait(240) for run in runs] == [0, 0]
    for project in projects:
        assert_complete(project)
    assert {row["engine_run"] for row in projects[1].table("servers.parquet")} == {1}
