"""What happens to the controller, and to Slurm itself, caused for real in the middle of a run."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.server_status import wait_for_server
from tests.slurm.project import ClusterProject
from tests.waiting import wait_for
from tests.workflow.conftest import ROOT


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_controller_ends_and_evaluations_go_on(project: ClusterProject, how: signal.Signals) -> None:
    project.delay(1)
    run = project.start()
    wait_for(project.has_answered(4), "answers")
    os.killpg(run.pid, how)
    run.wait(120)
    wait_for(lambda: not project.jobs(), "evaluations to finish, and the server to go", 120)
    # Accounting hears of an end a moment after the queue
    wait_for(
        lambda: {job["State"] for job in project.all_jobs()} == {"COMPLETED"}, "all jobs to end well", 30
    )
    before = project.answered()
    known = {job["JobID"] for job in project.all_jobs()}

    again = project.run()
    assert again.returncode == 0, again.stdout[-6000:]
    project.assert_complete()
    assert project.answered() == before  # the model was not asked again
    new = [job for job in project.all_jobs() if job["JobID"] not in known]
    assert not [job for job in new if "-serve-" in job["JobName"]]


def test_evaluations_in_the_queue_are_taken_over(project: ClusterProject) -> None:
    for node in ("cpu1", "cpu2"):
        project.cluster.drain(node)
    run = project.start()
    wait_for(lambda: len(project.evaluation_jobs()) == 3, "the evaluations in the queue")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    before = {job["id"] for job in project.evaluation_jobs()}
    again = project.start()
    wait_for(lambda: "Slurm job" in project.log(), "the evaluations to be taken over")
    wait_for(lambda: project.log().count("Slurm job") == 3, "all of them")
    assert {job["id"] for job in project.evaluation_jobs()} == before
    for node in ("cpu1", "cpu2"):
        project.cluster.resume(node)
    project.finish(again)
    jobs = {job["JobID"] for job in project.all_jobs() if "evaluate" in job["JobName"]}
    assert jobs == before


def test_a_second_controller_is_told_who_runs(project: ClusterProject) -> None:
    project.delay(20)
    run = project.start()
    wait_for_server(project.server_state, "ready")
    second = project.run()
    assert second.returncode != 0
    assert "another run is under way in this folder" in second.stdout
    project.finish(run)


def test_a_lease_of_a_dead_run_keeps_no_server(project: ClusterProject) -> None:
    project.delay(1)
    for node in ("cpu1", "cpu2"):
        project.cluster.drain(node)
    run = project.start()
    wait_for_server(project.server_state, "ready")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    wait_for(lambda: not project.server_jobs(), "the server to go", 120)
    for node in ("cpu1", "cpu2"):
        project.cluster.resume(node)
    wait_for(lambda: not project.jobs(), "the evaluations to end", 120)
    project.finish(project.start())


def test_slurmctld_is_restarted(project: ClusterProject) -> None:
    project.delay(1)
    run = project.start()
    wait_for(project.has_answered(4), "answers")
    project.cluster.stop_slurmctld()
    wait_for(lambda: "Slurm does not answer" in project.log(), "the run to notice", 60)
    project.cluster.start_slurmctld()
    project.finish(run)


def test_accounting_is_away_for_a_minute(project: ClusterProject) -> None:
    project.delay(1)
    run = project.start()
    wait_for(project.has_answered(4), "answers")
    project.cluster.stop_slurmdbd()
    try:
        assert run.wait(200) == 0, project.log()[-6000:]
    finally:
        project.cluster.start_slurmdbd()
    project.assert_complete()


def test_the_controller_as_a_job(project: ClusterProject) -> None:
    for name in ("scripts", ".venv"):
        (project.folder / name).symlink_to(ROOT / name)
    flags = ["--partition=cpu", "--account=acct1", "--mem=1G", "--time=10"]
    command = [*project.host, str(project.folder / "scripts" / "submit"), *flags, "--", *project.options()]
    submitted = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=True)
    assert "The controller is job" in submitted.stdout

    def logged() -> str:
        return "".join(log.read_text() for log in (project.folder / "logs").glob("controller-*.log"))

    wait_for(lambda: "Snakemake ended with status" in logged(), "the controller to end", 150)
    assert "Snakemake ended with status 0" in logged(), logged()[-3000:]
    project.assert_complete()
    wait_for(lambda: not project.cluster.jobs(), "the queue to be empty", 60)
