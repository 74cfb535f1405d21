"""What happens to a server, caused for real in the middle of a run: evaluations carry on, each question is
answered once, GPUs are released, and the tables say what happened."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from tests.slurm.project import ClusterProject
from tests.waiting import wait_for


def begin(project: ClusterProject, delay_s: float = 0.7, answers: int = 3) -> subprocess.Popen[str]:
    """A run in which so many requests have been answered."""
    project.delay(delay_s)
    run = project.start()
    wait_for(project.has_answered(answers), "answers")
    return run


def test_vllm_is_killed(project: ClusterProject) -> None:
    run = begin(project)
    (engine,) = project.engines()
    os.kill(engine, signal.SIGKILL)
    project.finish(run)
    assert {row["engine_run"] for row in project.engine_runs()} == {1, 2}
    assert len({row["job_id"] for row in project.engine_runs()}) == 1
    assert "SIGKILL" in str([row["exit_reason"] for row in project.engine_runs()])


def test_the_supervisor_is_killed(project: ClusterProject) -> None:
    run = begin(project)
    os.kill(project.supervisor(), signal.SIGKILL)
    project.finish(run)
    assert len({row["job_id"] for row in project.engine_runs()}) == 2


def test_the_servers_job_is_cancelled_by_hand(project: ClusterProject) -> None:
    run = begin(project)
    (server,) = project.server_jobs()
    project.cluster.ask(["scancel", server["id"]])
    project.finish(run)
    assert len({row["job_id"] for row in project.engine_runs()}) == 2
    assert "CANCELLED" in {row["slurm_state"] for row in project.engine_runs()}


def test_a_servers_job_that_waits_is_cancelled_by_hand(project: ClusterProject) -> None:
    for node in ("gpu1", "gpu2"):
        project.cluster.drain(node)
    run = project.start()
    (server,) = wait_for(project.server_jobs, "the server in the queue")
    wait_for(lambda: len(project.evaluation_jobs()) == 3, "the evaluations in the queue")
    project.cluster.ask(["scancel", server["id"]])
    for node in ("gpu1", "gpu2"):
        project.cluster.resume(node)
    project.finish(run)


def test_the_servers_node_dies(project: ClusterProject) -> None:
    run = begin(project)
    (server,) = project.server_jobs()
    node = project.node_of(server)
    project.cluster.kill_node(node)
    project.cluster.report_down(node)
    project.finish(run)
    engine_runs = project.engine_runs()
    assert {row["job_id"] for row in engine_runs} == {server["id"]}
    assert {row["nodes"] for row in engine_runs} == {"gpu1", "gpu2"}
    assert "NODE_FAIL" in str(engine_runs)


def test_the_servers_node_is_cut_off_for_a_minute(project: ClusterProject) -> None:
    run = begin(project)
    (server,) = project.server_jobs()
    node = project.node_of(server)
    project.cluster.cut_network(node)
    cut_at = time.monotonic()
    wait_for(lambda: time.monotonic() - cut_at > 60, "a minute to pass")
    project.cluster.restore_network(node)
    project.finish(run)


@pytest.mark.timeout(600)
def test_the_servers_time_ends_and_its_job_is_requeued(project: ClusterProject) -> None:
    # It drains half a minute before the end, and a busy machine needs as long to start it
    project.config["servers"]["stand-in"]["time_limit_min"] = 2
    project.config["server_jobs"] = {"renew_before_min": None}
    run = begin(project, delay_s=18, answers=1)
    project.finish(run, 280)
    assert len({row["job_id"] for row in project.engine_runs()}) == 1
    assert {row["restart"] for row in project.engine_runs()} >= {0, 1}


def test_a_successor_takes_over_before_the_servers_time_ends(project: ClusterProject) -> None:
    project.config["servers"]["stand-in"]["time_limit_min"] = 3
    project.n_problems = 12
    project.write_problems("problems", range(12))
    run = begin(project, delay_s=6, answers=1)
    project.finish(run)
    assert {row["server_id"] for row in project.engine_runs()} >= {"tiny/0001", "tiny/0002"}
    assert {row["restart"] for row in project.engine_runs()} == {0}
    # without a gap: no request failed
    for name in ("first", "second", "third"):
        assert {row["http_status"] for row in project.table(f"requests/tiny/{name}.parquet")} == {200}


def test_the_server_is_preempted(project: ClusterProject) -> None:
    project.config["servers"]["stand-in"]["gpus"] = 4
    project.cluster.drain("gpu2")
    run = begin(project)
    (server,) = project.server_jobs()
    other = project.cluster.submit(
        "--partition=gpu-high",
        "--gpus-per-node=h100:4",
        "--time=1",
        "--mem=100M",
        "--output=/dev/null",
        script="#!/bin/sh\nsleep 15\n",
    )
    wait_for(
        lambda: other not in {job["id"] for job in project.cluster.jobs() if job["state"] == "PENDING"},
        "the other job to take the GPUs",
        60,
    )
    project.finish(run)
    assert "PREEMPTED" in str(project.engine_runs()) or "REQUEUED" in str(project.engine_runs())
    assert {row["job_id"] for row in project.engine_runs()} == {server["id"]}


def test_a_server_that_answers_500_to_everything_is_given_up_with_the_reason(project: ClusterProject) -> None:
    project.config["servers"]["stand-in"]["env"]["STAND_IN_FAIL_AFTER"] = "2"
    run = project.start()
    assert run.wait(200) != 0
    rows = project.table("evaluations.parquet")
    assert {row["error_class"] for row in rows} == {"server_lost"}
    assert all("500" in row["reason"] for row in rows), rows
    assert not project.jobs()
    del project.config["servers"]["stand-in"]["env"]["STAND_IN_FAIL_AFTER"]
    assert project.run().returncode == 0
    project.assert_complete()


def test_a_server_of_another_model_is_never_used(project: ClusterProject) -> None:
    project.config["servers"]["stand-in"]["env"]["STAND_IN_MODEL"] = "another"
    run = project.start()
    assert run.wait(200) != 0
    rows = project.table("evaluations.parquet")
    assert all("another" in row["reason"] for row in rows), rows
    assert not list(project.results.glob("requests/tiny/*.parquet"))
    assert not project.jobs()
