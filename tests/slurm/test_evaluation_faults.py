"""What happens to an evaluation, caused for real in the middle of a run."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from tests.slurm.project import ClusterProject
from tests.waiting import wait_for
from tests.workflow.conftest import processes_in


def test_the_evaluations_node_dies(project: ClusterProject) -> None:
    project.delay(1)
    run = project.start()
    wait_for(project.has_answered(4), "answers")
    node = project.node_of(project.evaluation_jobs()[0])
    project.cluster.kill_node(node)
    project.cluster.report_down(node)
    project.finish(run)
    assert "NODE_FAIL" in str(project.table("evaluations.parquet")) or any(
        row["job_runs"] > 1 for row in project.table("evaluations.parquet")
    )


def test_an_evaluation_runs_out_of_memory_and_gets_more(project: ClusterProject) -> None:
    project.site["evaluations"]["memory_gb"] = 0.1
    run = project.start()
    project.finish(run)
    assert all(row["attempt"] > 1 for row in project.table("evaluations.parquet"))
    assert {job["State"] for job in project.all_jobs()} >= {"OUT_OF_MEMORY", "COMPLETED"}


def test_an_evaluation_runs_out_of_time_and_carries_on(project: ClusterProject) -> None:
    project.config["benchmarks"]["first"]["time_limit_min"] = 0.1
    project.delay(2)
    run = project.start()
    project.finish(run)
    attempts = {row["benchmark"]: row["attempt"] for row in project.table("evaluations.parquet")}
    assert attempts["first"] > 1
    assert attempts["second"] == attempts["third"] == 1


def test_an_evaluation_is_cancelled_by_hand(project: ClusterProject) -> None:
    project.delay(1)
    run = project.start()
    wait_for(project.has_answered(4), "answers")
    job = project.evaluation_jobs()[0]
    project.cluster.ask(["scancel", job["id"]])
    assert run.wait(200) != 0
    rows = [row for row in project.table("evaluations.parquet") if row["status"] != "ok"]
    assert [row["error_class"] for row in rows] == ["cancelled"]
    assert not project.jobs()
    run = project.start()
    project.finish(run)


def test_a_gateway_is_killed(project: ClusterProject) -> None:
    project.delay(1)
    run = project.start()
    wait_for(project.has_answered(4), "answers")
    gateway = next(pid for pid in processes_in(project.results) if b"slurmeval.gateway" in command(pid))
    os.kill(gateway, signal.SIGKILL)
    assert run.wait(200) != 0
    (row,) = [row for row in project.table("evaluations.parquet") if row["status"] != "ok"]
    assert "gateway" in row["reason"]
    run = project.start()
    project.finish(run)


def test_the_file_system_of_the_log_is_full(project: ClusterProject) -> None:
    project.delay(0.5)
    project.results.mkdir()
    with project.cluster.small_filesystem(project.results / "work", 600_000) as work:
        run = project.start()
        wait_for(project.has_answered(3), "answers")
        filler = work / "filler"
        with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
            while True:
                stream.write(b"x" * 4096)
        assert run.wait(200) != 0
        reasons = [str(row["reason"]) for row in project.table("evaluations.parquet")]
        assert any("space" in reason for reason in reasons), reasons
        assert not project.jobs()
        filler.unlink()
        run = project.start()
        project.finish(run)


def command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
