"""Two supervisors on one server: a node was cut off, and Slurm has started the job again elsewhere."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace

import pytest

from slurmeval.files import read_json, write_json
from slurmeval.servers.accounting import append_engine_run
from slurmeval.servers.job import BatchJob
from slurmeval.servers.leases import release
from slurmeval.servers.state import FencedOff, Published
from slurmeval.state.engine_run import EngineRunRecord
from slurmeval.state.server import ServerStatus
from tests.engine_runs import engine_runs_of
from tests.unit.servers.conftest import Bench
from tests.waiting import wait_for


@pytest.fixture
def bench(bench: Bench) -> Bench:
    bench.spec = replace(bench.spec, cluster="slurm", max_at_once=None)
    return bench


def job(restart: int) -> BatchJob:
    return BatchJob("7", restart, "gpu1", 0, 0.0)


def test_older_supervisor_kills_its_vllm_and_leaves_everything_to_the_younger(bench: Bench) -> None:
    bench.environment = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "gpu1"}
    bench.lease()
    bench.wait_for_status("ready")
    bench.environment |= {"SLURM_RESTART_COUNT": "1", "SLURMD_NODENAME": "gpu2"}
    bench.submit(bench.folder().path)
    assert bench.supervisors[0].wait(20) != 0
    state = wait_for(
        lambda: bench.state() if bench.state()["engine_run"] == 2 else None, "the younger's engine run"
    )
    state = bench.wait_for_status("ready")
    assert (state["restart"], state["node"], state["owner"]["pid"]) == (1, "gpu2", bench.supervisors[1].pid)
    first, second = bench.engine_runs()
    wait_for(lambda: not _runs(first["pid"]), "the end of the older's vLLM", 5)
    endpoint = read_json(bench.folder().endpoint)
    assert (endpoint["engine_run"], endpoint["api_key"]) == (2, second["key"])
    release(bench.lease_path())
    assert bench.wait_for_exit(2) == 0
    engine_runs = engine_runs_of(bench.folder())
    assert [
        (engine_run["engine_run"], engine_run["restart"], engine_run["node"]) for engine_run in engine_runs
    ] == [
        (1, 0, "gpu1"),
        (2, 1, "gpu2"),
    ]
    assert engine_runs[0]["ended_at"] is None and engine_runs[0]["seen_at"] is not None
    assert engine_runs[1]["exit_reason"] == "no lease is left"
    assert bench.leftovers() == []


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_supervisor_that_comes_too_late_does_nothing(bench: Bench) -> None:
    bench.environment = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}
    bench.lease()
    bench.wait_for_status("ready")
    before = bench.state()["fencing_token"]
    bench.environment = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}
    bench.submit(bench.folder().path)
    assert bench.supervisors[1].wait(20) != 0
    assert bench.state()["fencing_token"] == before
    assert len(bench.engine_runs()) == 1
    # The younger's vLLM still runs: nothing of it is booked
    assert engine_runs_of(bench.folder()) == []


def test_later_start_is_younger_whatever_the_nodes_clocks_say(bench: Bench) -> None:
    folder = bench.folder()
    folder.path.mkdir(parents=True)
    write_json(folder.state, {"status": "ready", "fencing_token": [0, 4e9]})
    younger = Published(folder, job(restart=0), 0)
    assert younger.fencing_token > (0, 4e9)
    assert Published(folder, job(restart=1), 0).fencing_token[0] == 1


def test_nothing_is_written_once_a_younger_one_has(bench: Bench) -> None:
    folder = bench.folder()
    folder.path.mkdir(parents=True)
    older = Published(folder, job(restart=0), 0)
    older.change(ServerStatus.READY)
    younger = Published(folder, job(restart=1), 0)
    younger.change(ServerStatus.PENDING)
    younger.announce("http://younger", "k", "smol", 1)
    for write in (
        older.withdraw,
        older.close,
        lambda: older.change(ServerStatus.STOPPED),
        lambda: older.heartbeat(0),
        lambda: older.announce("http://older", "k", "smol", 1),
    ):
        with pytest.raises(FencedOff):
            write()
    assert read_json(folder.endpoint)["url"] == "http://younger"
    assert not folder.closed.exists()


def test_endpoint_that_the_older_wrote_last_is_mended_with_the_next_heartbeat(bench: Bench) -> None:
    folder = bench.folder()
    folder.path.mkdir(parents=True)
    younger = Published(folder, job(restart=1), 0)
    younger.announce("http://younger", "k", "smol", 2)
    write_json(folder.endpoint, {"url": "http://older"})
    younger.heartbeat(0)
    assert read_json(folder.endpoint)["url"] == "http://younger"
    assert folder.endpoint.stat().st_mode & 0o777 == 0o600


def test_line_that_a_crash_cut_short_does_not_spoil_the_next(bench: Bench) -> None:
    folder = bench.folder()
    folder.path.mkdir(parents=True)
    append_engine_run(folder.engine_runs, EngineRunRecord(1))
    with folder.engine_runs.open("a") as stream:
        stream.write('{"engine_run": 2, "sta')
    append_engine_run(folder.engine_runs, EngineRunRecord(3))
    assert [engine_run["engine_run"] for engine_run in engine_runs_of(folder)] == [1, 3]


def test_engine_run_of_a_crashed_supervisor_is_booked_by_the_next(bench: Bench) -> None:
    bench.environment = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "gpu1"}
    bench.order({"running": 1, "tokens": 5}, {})
    bench.lease()
    wait_for(lambda: (bench.state().get("under_way") or {}).get("busy_s", 0) > 0.1, "busy time")
    bench.supervisors[0].send_signal(signal.SIGKILL)
    bench.supervisors[0].wait()
    bench.environment["SLURM_RESTART_COUNT"] = "1"
    bench.submit(bench.folder().path)
    wait_for(lambda: bench.state()["engine_run"] == 2, "the second engine run")
    (engine_run,) = engine_runs_of(bench.folder())
    assert engine_run["exit_reason"] == "cut off: its supervisor was killed"
    assert engine_run["busy_s"] > 0.1 and engine_run["generated_tokens"] == 5
    assert (engine_run["job_id"], engine_run["restart"], engine_run["node"]) == ("7", 0, "gpu1")


def test_a_supervisor_whose_folder_was_removed_ends_and_writes_nothing_into_the_next(bench: Bench) -> None:
    bench.lease()
    bench.wait_for_status("ready")
    shutil.rmtree(bench.folder().path.parent)
    write_json(bench.folder().submitter, {"token": "run-2"})  # of the server that has this name now
    assert bench.supervisors[0].wait(20) != 0
    assert not bench.folder().closed.exists()
    wait_for(lambda: bench.leftovers() == [], "the end of its vLLM", 10)
