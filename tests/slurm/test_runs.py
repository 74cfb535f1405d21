"""Whole runs on a real Slurm: what they submit, what they leave, what they say."""

from __future__ import annotations

import itertools
import json
import os
import stat
from pathlib import Path
from typing import Any

from tests.slurm.cluster import Cluster
from tests.slurm.project import ClusterProject
from tests.waiting import wait_for
from tests.workflow.conftest import N_PROBLEMS
from tests.workflow.test_rescoring import make_older


def gpu_seconds_of_sacct(cluster: Cluster, job_id: str) -> int:
    """Elapsed time of all runs of a job, times its GPUs."""
    rows = cluster.sacct(job_id)
    return sum(
        int(row["ElapsedRaw"]) * int(row["AllocTRES"].partition("gres/gpu=")[2].partition(",")[0] or 0)
        for row in rows
    )


def test_a_run_submits_one_server_and_leaves_nothing(project: ClusterProject) -> None:
    done = project.run()
    assert done.returncode == 0, done.stdout[-6000:]
    assert not project.jobs()
    project.assert_complete()
    (server,) = {row["job_id"] for row in project.engine_runs()}
    assert sum(row["gpu_s"] for row in project.engine_runs()) == gpu_seconds_of_sacct(project.cluster, server)
    for row in project.table("evaluations.parquet"):
        (job,) = project.cluster.sacct(row["job_id"])
        assert (row["elapsed_s"], row["node"]) == (int(job["ElapsedRaw"]), job["NodeList"])
    again = project.run()
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout

    # Results of an earlier version, and one that was removed: all answers are stored, no server is asked for
    before = {job["JobID"] for job in project.all_jobs()}
    make_older(project)
    (project.results / "metrics" / "tiny" / "first.parquet").unlink()
    rescored = project.run()
    assert rescored.returncode == 0, rescored.stdout[-6000:]
    project.assert_complete()
    new = [job["JobName"] for job in project.all_jobs() if job["JobID"] not in before]
    assert new == [f"{project.job_prefix}evaluate"]


def test_what_is_staged_is_staged_in_jobs_where_the_site_says_so(project: ClusterProject) -> None:
    project.site["staging"] = {
        "where": "jobs",
        "account": "acct1",
        "partition": "cpu",
        "cpus": 1,
        "memory_gb": 0.5,
        "time_limit_min": 5,
        "setup": ["export SET_UP=1"],
    }
    done = project.run()
    assert done.returncode == 0, done.stdout[-6000:]
    project.assert_complete()
    answer = project.cluster.ask(
        [
            "sacct",
            "-X",
            "-n",
            "-P",
            "--name=slurmeval-stage",
            "--format=State,Partition",
            "--starttime=now-1hour",
        ]
    )
    # The model, the data set, and three rehearsals
    assert answer.split() == ["COMPLETED|cpu"] * 5


def test_one_failure_among_twelve_is_all_that_the_next_run_repeats(project: ClusterProject) -> None:
    first = project.config["models"]["tiny"]
    project.config["models"] = {name: dict(first) for name in ("small", "tiny", "wee")}
    project.config["benchmarks"]["fourth"] = project.benchmark(time_limit_min=5)
    project.config["suites"]["all"] = ["first", "second", "third", "fourth"]
    project.write_problems("others", range(10, 10 + N_PROBLEMS))
    project.config["datasets"]["others"] = {"folder": "others"}
    project.config["benchmarks"]["third"]["datasets"] = ["others"]
    project.config["servers"]["stand-in"]["env"]["STAND_IN_REFUSE"] = "wee:add_11"
    done = project.run()
    assert done.returncode != 0
    states = {(row["model"], row["benchmark"]): row["status"] for row in project.table("evaluations.parquet")}
    assert [pair for pair, state in states.items() if state != "ok"] == [("wee", "third")]
    del project.config["servers"]["stand-in"]["env"]["STAND_IN_REFUSE"]

    plan = project.run("-n")
    assert project.planned() == {"lease": 1, "evaluate": 1, "aggregate": 1, "report": 1}
    assert "1 server" in plan.stdout
    assert "1 evaluation" in plan.stdout
    known = {job["JobID"] for job in project.all_jobs()}
    again = project.run()
    assert again.returncode == 0, again.stdout[-4000:]
    names = sorted(
        job["JobName"].removeprefix(project.job_prefix)
        for job in project.all_jobs()
        if job["JobID"] not in known
    )
    assert names == ["evaluate", "serve-wee"]
    project.assert_complete()


def test_a_server_that_cannot_come_up_fails_all_at_once_with_the_reason(project: ClusterProject) -> None:
    project.config["models"]["tiny"]["flags"] = {"break-at-start": None}
    done = project.run()
    assert done.returncode != 0
    rows = project.table("evaluations.parquet")
    assert {row["error_class"] for row in rows} == {"server_lost"}
    assert all("break-at-start" in row["reason"] for row in rows)
    assert len({row["server_id"] for row in project.engine_runs()}) == 1
    assert not project.jobs()


def test_a_job_that_ends_before_the_server_starts_says_why(project: ClusterProject) -> None:
    project.site["servers"]["setup"] = ["echo no such module: CUDA/99 >&2; exit 3"]
    done = project.run()
    assert done.returncode != 0
    rows = project.table("evaluations.parquet")
    assert all("no such module: CUDA/99" in row["reason"] for row in rows), rows


def test_evaluations_of_a_server_that_failed_do_not_start(project: ClusterProject) -> None:
    """Those that wait for a CPU node while their server fails are taken out of the queue."""
    project.config["models"]["tiny"]["flags"] = {"break-at-start": None}
    for node in ("cpu1", "cpu2"):
        project.cluster.drain(node)
    try:
        done = project.run()
    finally:
        for node in ("cpu1", "cpu2"):
            project.cluster.resume(node)
    assert done.returncode != 0
    rows = project.table("evaluations.parquet")
    assert all("break-at-start" in row["reason"] for row in rows), rows
    # On a busy machine the server may have failed before the last one was submitted: then it never is
    submitted = [row["job_id"] for row in rows if row["job_id"] is not None]
    assert submitted
    for job_id in submitted:
        (job,) = project.cluster.sacct(job_id)
        assert job["State"].startswith("CANCELLED")
        assert int(job["ElapsedRaw"]) == 0


def test_keys_are_nowhere_to_be_seen(project: ClusterProject) -> None:
    project.delay(0.5)
    run = project.start()
    wait_for(project.has_answered(3), "answers")
    endpoint = project.results / "state" / "servers" / "tiny" / "0001" / "endpoint.json"
    key = json.loads(endpoint.read_bytes())["api_key"]
    gateways = list(project.results.glob("work/tiny/*/*/gateway-ready.json"))
    keys = [key, *(json.loads(file.read_bytes())["api_key"] for file in gateways)]
    assert len(keys) == len(set(keys)) > 1
    for file in (endpoint, *gateways):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shown = [project.cluster.scontrol_show_job(job["id"]) for job in project.jobs()]
    commands = [command_line(pid) for pid in Path("/proc").iterdir() if pid.name.isdecimal()]
    assert not [key for key in keys if key in json.dumps(shown) or any(key in line for line in commands)]
    server = project.node_of(project.server_jobs()[0])
    stranger = project.cluster.run_as_stranger(server, ["cat", endpoint])
    assert stranger.returncode != 0
    project.finish(run)
    for folder, _, names in os.walk(project.folder):
        for name in names:
            content = (Path(folder) / name).read_bytes()
            assert not [key for key in keys if key.encode() in content], (folder, name)


def command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def test_replicas_share_the_requests(project: ClusterProject) -> None:
    project.config["servers"]["stand-in"]["replicas"] = 2
    project.delay(0.5)
    run = project.start()
    project.finish(run)
    servers: set[Any] = set()
    for name in ("first", "second", "third"):
        servers |= {row["server_id"] for row in project.table(f"requests/tiny/{name}.parquet")}
    assert servers == {"tiny/0001", "tiny@2/0001"}


def test_no_more_servers_than_allowed_at_once(project: ClusterProject) -> None:
    first = project.config["models"]["tiny"]
    project.config["models"] = {name: dict(first) for name in ("small", "tiny", "wee")}
    project.config["server_jobs"] = {"max_at_once": 1}
    done = project.run()
    assert done.returncode == 0, done.stdout[-4000:]
    spans = sorted((row["started_at"], row["ended_at"]) for row in project.engine_runs())
    assert len(spans) == 3
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans)), spans


def test_small_servers_share_a_job_where_nodes_are_given_whole(project: ClusterProject) -> None:
    project.site["servers"]["gpus_per_job"] = 4
    first = project.config["models"]["tiny"]
    project.config["models"] = {name: dict(first) for name in ("small", "tiny")}
    done = project.run()
    assert done.returncode == 0, done.stdout[-4000:]
    project.assert_complete()
    (server,) = {row["job_id"] for row in project.engine_runs()}
    assert {row["server_id"] for row in project.engine_runs()} == {"small/0001", "tiny/0001"}
    assert sum(row["gpu_s"] for row in project.engine_runs()) == gpu_seconds_of_sacct(project.cluster, server)


def test_without_dependencies_evaluations_are_submitted_once_their_server_runs(
    project: ClusterProject,
) -> None:
    project.site["dependencies"] = False
    done = project.run()
    assert done.returncode == 0, done.stdout[-4000:]
    project.assert_complete()
    (server,) = {row["job_id"] for row in project.engine_runs()}
    (server_job,) = project.cluster.sacct(server)
    for row in project.table("evaluations.parquet"):
        (job,) = project.cluster.sacct(row["job_id"])
        assert job["Submit"] >= server_job["Start"]


def test_evaluations_inside_the_servers_job(project: ClusterProject) -> None:
    project.site["evaluations"]["where"] = "server"
    project.delay(0.2)
    done = project.run()
    assert done.returncode == 0, done.stdout[-4000:]
    project.assert_complete()
    names = {job["JobName"].removeprefix(project.job_prefix) for job in project.all_jobs()}
    assert names == {"serve-tiny"}


def test_each_server_runs_on_the_nodes_of_its_pool(project: ClusterProject) -> None:
    project.site["servers"] |= {
        "extra": ["--nodelist=gpu1"],
        "pools": {"second": {"partition": "gpu-high", "extra": ["--nodelist=gpu2"]}},
    }
    server = project.config["servers"]["stand-in"]
    project.config["servers"]["other"] = server | {"pool": "second"}
    project.config["models"]["big"] = project.config["models"]["tiny"] | {"server": "other"}
    project.config["suites"]["all"] = ["first"]
    done = project.run()
    assert done.returncode == 0, done.stdout[-6000:]
    jobs = {row["model"]: row["job_id"] for row in project.engine_runs()}
    nodes = {model: {row["NodeList"] for row in project.cluster.sacct(jobs[model])} for model in jobs}
    assert nodes == {"tiny": {"gpu1"}, "big": {"gpu2"}}
