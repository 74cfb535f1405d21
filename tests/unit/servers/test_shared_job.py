"""Several servers in one job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from slurmeval.errors import SlurmevalError
from slurmeval.files import read_json, write_json
from slurmeval.processes import identity
from slurmeval.servers.folder import ServerFolder
from slurmeval.servers.leases import acquire, release
from slurmeval.servers.shared_job import shares_of
from tests.server_status import wait_for_server
from tests.unit.servers.conftest import DEADLINE_S, PROJECT, Bench
from tests.waiting import wait_for

# As submitit has it: SIGUSR2 suspends all, then the job would be requeued.
JOB = """
import json, signal, sys
from slurmeval.servers.shared_job import SharedSupervisors
shared = SharedSupervisors(sys.argv[1:])
def suspend(*_):
    shared.checkpoint()
    sys.exit(0)
signal.signal(signal.SIGUSR2, suspend)
shared()
"""


class Packed:
    """Two models' servers, and the job that they share."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.folders: list[ServerFolder] = []
        self.leases: list[Path] = []
        self.jobs: list[subprocess.Popen[bytes]] = []
        for model in ("smol", "tiny"):
            spec = replace(
                bench.spec,
                model=model,
                gpus=1,
                cluster="slurm",
                max_at_once=None,
                servers=str(bench.root / "servers" / model),
                leases=str(bench.root / "leases" / model),
            )
            lease = acquire(spec, "arc", bench.controller, self._note)
            self.folders.append(ServerFolder(lease.server))
            self.leases.append(Path(spec.leases) / "arc.json")

    def _note(self, folder: Path) -> None:
        write_json(
            ServerFolder(folder).job, {"job_id": "7", "cluster": "slurm", "process": asdict(identity())}
        )

    def start(self, restart: int = 0) -> subprocess.Popen[bytes]:
        variables = {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "2,3", "SLURM_RESTART_COUNT": str(restart)}
        argv = [sys.executable, "-c", JOB, *(str(folder.path) for folder in self.folders)]
        self.jobs.append(subprocess.Popen(argv, env={**os.environ, **variables}, cwd=PROJECT))
        return self.jobs[-1]

    def wait_for(self, status: str, member: int, engine_run: int = 1) -> None:
        def read() -> dict[str, Any]:
            state = read_json(self.folders[member].state) or {}
            return state if state.get("engine_run") == engine_run else {}

        wait_for_server(read, status, DEADLINE_S)

    def supervisor(self, member: int) -> int:
        pid: int = read_json(self.folders[member].state)["owner"]["pid"]
        return pid


@pytest.fixture
def packed(bench: Bench) -> Iterator[Packed]:
    packed = Packed(bench)
    yield packed
    for job in packed.jobs:
        job.kill()
        job.wait()
    wait_for(lambda: not bench.leftovers(), "the end of all vLLMs", DEADLINE_S)


def test_job_ends_when_all_of_its_servers_have(packed: Packed) -> None:
    job = packed.start()
    for member in (0, 1):
        packed.wait_for("ready", member)
    assert packed.supervisor(0) != packed.supervisor(1)
    release(packed.leases[0])
    packed.wait_for("stopped", 0)
    assert job.poll() is None
    assert read_json(packed.folders[1].state)["status"] == "ready"
    release(packed.leases[1])
    assert job.wait(DEADLINE_S) == 0
    assert packed.bench.leftovers() == []


def test_requeued_job_starts_what_was_not_closed(packed: Packed) -> None:
    job = packed.start()
    for member in (0, 1):
        packed.wait_for("ready", member)
    release(packed.leases[0])
    packed.wait_for("stopped", 0)
    job.send_signal(signal.SIGUSR2)
    assert job.wait(DEADLINE_S) == 0
    packed.wait_for("pending", 1)
    assert packed.bench.leftovers() == []
    packed.start(restart=1)
    packed.wait_for("ready", 1, engine_run=2)
    assert read_json(packed.folders[0].state)["status"] == "stopped"


def test_killed_supervisor_is_started_again_and_the_others_stay(packed: Packed) -> None:
    packed.start()
    for member in (0, 1):
        packed.wait_for("ready", member)
    other = packed.supervisor(1)
    os.kill(packed.supervisor(0), signal.SIGKILL)
    packed.wait_for("ready", 0, engine_run=2)
    assert packed.supervisor(1) == other


def test_killed_job_takes_all_with_it(packed: Packed) -> None:
    job = packed.start()
    for member in (0, 1):
        packed.wait_for("ready", member)
    job.kill()
    job.wait()
    wait_for(lambda: not packed.bench.leftovers(), "the end of all vLLMs", DEADLINE_S)


def test_gpus_are_shared_out_by_number_or_by_name() -> None:
    devices = {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b,MIG-c", "ROCR_VISIBLE_DEVICES": "4,5,6"}
    assert shares_of([2, 1], devices) == [
        {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b", "ROCR_VISIBLE_DEVICES": "4,5"},
        {"CUDA_VISIBLE_DEVICES": "MIG-c", "ROCR_VISIBLE_DEVICES": "6"},
    ]
    assert shares_of([1, 1], {}) == [{}, {}]
    with pytest.raises(SlurmevalError, match="the job has 1 GPUs, and its servers need 2"):
        shares_of([1, 1], {"CUDA_VISIBLE_DEVICES": "0"})
