"""Submission with submitit's local executor, around a stand-in for vLLM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from slurmeval.files import read_json
from slurmeval.processes import is_alive
from slurmeval.servers.leases import acquire, release, submit_detached
from tests.unit.servers.conftest import PROJECT, Bench
from tests.waiting import wait_for


def test_job_lives_in_a_session_of_its_own_and_goes_with_its_lease(bench: Bench) -> None:
    lease = acquire(bench.spec.to_json(), "arc", bench.controller)
    job = read_json(bench.folder().job)
    assert (job["job_id"], job["cluster"]) == (lease.job_id, "local")
    bench.wait_for_status("ready")
    assert os.getsid(int(job["job_id"])) != os.getsid(0)
    assert Path(f"/proc/{job['job_id']}/fd/1").readlink() == bench.folder().submit_log
    release(bench.lease_path())
    bench.wait_for_status("stopped")
    wait_for(lambda: not is_alive(job["process"]), "the job's end")
    assert bench.leftovers() == []


def test_folder_is_submitted_once(bench: Bench) -> None:
    acquire(bench.spec.to_json(), "arc", bench.controller)
    again = subprocess.run(
        [sys.executable, "-m", "slurmeval.servers.submit", str(bench.folder().path)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    assert again.returncode != 0
    assert "has been submitted before" in again.stderr
    release(bench.lease_path())
    bench.wait_for_status("stopped")


def test_requeued_job_serves_again_under_its_id(bench: Bench) -> None:
    acquire(bench.spec.to_json(), "arc", bench.controller, submit_detached)
    bench.wait_for_status("ready")
    first = bench.state()["owner"]
    os.kill(first["pid"], signal.SIGUSR2)
    wait_for(lambda: bench.state().get("owner") not in (None, first), "the job's second start")
    state = bench.wait_for_status("ready")
    assert state["life"] == 2
    assert not bench.folder().closed.exists()
    release(bench.lease_path())
    bench.wait_for_status("stopped")
    assert bench.leftovers() == []
