"""A server on two "nodes": two supervisors on one machine, with the variables that Slurm sets."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurmeval.errors import ErrorClass
from slurmeval.files import read_json, write_json
from slurmeval.processes import SKEW_S, STALE_S
from slurmeval.servers.engine_process import session_members
from slurmeval.servers.folder import ServerFolder
from slurmeval.servers.leases import acquire, release
from slurmeval.servers.ranks import Workers
from tests.engine_runs import engine_runs_of
from tests.unit.servers.conftest import Bench
from tests.waiting import wait_for

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "gpu[1-2]"}


class Nodes:
    """A bench whose job runs on two nodes. Supervisors 0 and 1 are its ranks."""

    def __init__(self, bench: Bench) -> None:
        bench.spec = replace(bench.spec, cluster="slurm", nodes=2, max_at_once=None)
        self.bench = bench
        self.restart = 0

    def start(self, folder: Path) -> None:
        for rank in (0, 1):
            variables = {"SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank)}
            self.bench.environment = {**JOB, **variables, "SLURM_RESTART_COUNT": str(self.restart)}
            self.bench.submit(folder)

    def lease(self) -> None:
        acquire(self.bench.spec, "arc", self.bench.controller, self.start)

    def parts(self) -> list[dict[str, Any]]:
        """What the stand-in recorded of the second rank's parts."""
        path = Path(f"{self.bench.orders_path}.ranks")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def leftovers(self) -> list[int]:
        return [*self.bench.leftovers(), *(p for part in self.parts() for p in session_members(part["pid"]))]


@pytest.fixture
def nodes(bench: Bench) -> Nodes:
    return Nodes(bench)


def test_two_nodes_run_one_vllm_and_end_together(nodes: Nodes) -> None:
    nodes.lease()
    state = nodes.bench.wait_for_status("ready")
    assert (state["node"], state["gpus"]) == ("gpu[1-2]", 0)
    (engine_run,), (part,) = nodes.bench.engine_runs(), nodes.parts()
    for argv, rank in ((engine_run["argv"], "0"), (part["argv"], "1")):
        assert argv[argv.index("--nnodes") + 1] == "2"
        assert argv[argv.index("--node-rank") + 1] == rank
    release(nodes.bench.lease_path())
    assert [nodes.bench.wait_for_exit(1), nodes.bench.wait_for_exit(2)] == [0, 0]
    assert nodes.leftovers() == []
    (line,) = engine_runs_of(nodes.bench.folder())
    assert (line["node"], line["exit_reason"]) == ("gpu[1-2]", "no lease is left")


@pytest.mark.parametrize("rank", [0, 1])
def test_death_of_one_part_is_a_death_of_the_engine_run(nodes: Nodes, rank: int) -> None:
    nodes.lease()
    nodes.bench.wait_for_status("ready")
    part = (nodes.bench.engine_runs() if rank == 0 else nodes.parts())[0]
    os.kill(part["pid"], signal.SIGKILL)
    wait_for(
        lambda: len(nodes.bench.engine_runs()) == len(nodes.parts()) == 2,
        "the second engine run on both nodes",
    )
    nodes.bench.wait_for_status("ready")
    (line,) = engine_runs_of(nodes.bench.folder())
    assert "vLLM was killed by SIGKILL" in line["exit_reason"]
    assert (
        session_members(nodes.parts()[0]["pid"]) == session_members(nodes.bench.engine_runs()[0]["pid"]) == []
    )


def test_all_ranks_start_again_with_a_requeued_job(nodes: Nodes) -> None:
    nodes.lease()
    nodes.bench.wait_for_status("ready")
    for supervisor in nodes.bench.supervisors:
        supervisor.kill()
        supervisor.wait()
    wait_for(lambda: not nodes.leftovers(), "the end of both parts")
    nodes.restart = 1
    nodes.start(nodes.bench.folder().path)
    wait_for(lambda: nodes.bench.state()["engine_run"] == 2, "the second engine run")
    nodes.bench.wait_for_status("ready")
    assert len(nodes.parts()) == 2
    release(nodes.bench.lease_path())
    assert [nodes.bench.wait_for_exit(3), nodes.bench.wait_for_exit(4)] == [0, 0]


def test_second_rank_of_a_failed_server_ends(nodes: Nodes) -> None:
    nodes.bench.order(
        {"log": str(Path(__file__).parents[1] / "engines" / "vllm" / "bad_flag.log"), "exit": 2}
    )
    nodes.lease()
    assert [nodes.bench.wait_for_exit(1), nodes.bench.wait_for_exit(2)] == [0, 0]
    assert nodes.bench.state()["status"] == "failed"
    assert nodes.leftovers() == []


def test_rank_that_is_silent_has_failed(bench: Bench) -> None:
    folder = ServerFolder(bench.root / "0001")
    workers = Workers(folder, replace(bench.spec, nodes=2), [0, 1.0])
    workers.start(1)
    assert workers.failure() is None, "it may be starting"
    report = folder.path / "ranks" / "1.json"
    write_json(report, {"restart": 0, "engine_run": 1, "failure": None})
    long_ago = report.stat().st_mtime - STALE_S - SKEW_S - 1
    os.utime(report, (long_ago, long_ago))
    assert workers.failure() is None
    workers._since -= STALE_S + 1
    failure = workers.failure()
    assert failure is not None and failure.error_class is ErrorClass.NODE_FAILURE
    assert failure.reason == "node 2 of 2 has not been heard of for 60 s"


def test_reports_of_an_earlier_engine_run_do_not_count(bench: Bench) -> None:
    folder = ServerFolder(bench.root / "0001")
    workers = Workers(folder, replace(bench.spec, nodes=2), [1, 1.0])
    workers.start(3)
    failed = {"reason": "x", "error_class": "server_lost", "retryable": True, "port_taken": False}
    for restart, engine_run in ((0, 3), (1, 2)):
        write_json(
            folder.path / "ranks" / "1.json",
            {"restart": restart, "engine_run": engine_run, "failure": failed},
        )
        assert workers.failure() is None
    write_json(folder.path / "ranks" / "1.json", {"restart": 1, "engine_run": 3, "failure": failed})
    failure = workers.failure()
    assert failure is not None and failure.reason == "on node 2 of 2: x"
    assert read_json(folder.path / "ranks" / "order.json")["engine_run"] == 3
