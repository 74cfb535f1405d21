"""What a supervisor makes of the variables of its job, and of SIGTERM."""

from __future__ import annotations

import os
import signal
import stat
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slurmeval.servers import job as job_module
from slurmeval.servers.job import BatchJob, SigtermCause
from slurmeval.slurm.commands import QueuedJob, SlurmAway
from tests.engine_runs import engine_runs_of
from tests.unit.servers.conftest import Bench


def queued(state: str, restarts: int | None = 0, job_id: str = "7") -> QueuedJob:
    return QueuedJob(job_id, "serve", state, "", "", "/w", "gpu1", None, None, "", restarts)


def test_job_is_what_slurm_says(bench: Bench) -> None:
    spec = replace(bench.spec, cluster="slurm", time_limit_min=10)
    variables = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "gpu1", "SLURM_RESTART_COUNT": "2"}
    job = BatchJob.of(spec, variables)
    assert (job.job_id, job.restart, job.node, job.rank) == ("7", 2, "gpu1", 0)
    assert job.ends_at == pytest.approx(time.time() + 600, abs=5)
    assert BatchJob.of(spec, {**variables, "SLURM_JOB_END_TIME": "1795372000"}).ends_at == 1795372000


def test_server_of_one_node_has_one_rank_whatever_step_it_runs_in(bench: Bench) -> None:
    variables = {"SLURM_PROCID": "3", "SLURM_JOB_NODELIST": "gpu[1-2]"}
    assert BatchJob.of(replace(bench.spec, cluster="slurm"), variables).rank == 0
    assert BatchJob.of(replace(bench.spec, cluster="slurm", nodes=4), variables).rank == 3


def test_local_server_within_someones_allocation_is_no_job_of_slurm(bench: Bench) -> None:
    job = BatchJob.of(bench.spec, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"})
    assert (job.job_id, job.restart) == (None, 0)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ([queued("COMPLETING")], SigtermCause.STOPPED),
        ([queued("COMPLETING", restarts=1)], SigtermCause.REQUEUED),
        ([queued("RUNNING")], SigtermCause.PREEMPTED),
        ([queued("RUNNING", job_id="8")], SigtermCause.STOPPED),
        ([], SigtermCause.STOPPED),
        (SlurmAway("no"), SigtermCause.STOPPED),
    ],
)
def test_sigterm_means_what_the_queue_says(
    monkeypatch: pytest.MonkeyPatch, answer: list[QueuedJob] | SlurmAway, cause: SigtermCause
) -> None:
    def ask() -> list[QueuedJob]:
        if isinstance(answer, SlurmAway):
            raise answer
        end = datetime.now(UTC) + timedelta(seconds=10)
        return [replace(job, end=end) for job in answer]

    monkeypatch.setattr(job_module.commands, "queue", ask)
    found, left_s = BatchJob("7", 0, "gpu1", 0, 0.0).sigterm_cause()
    assert found is cause
    assert left_s == pytest.approx(10 if cause is SigtermCause.PREEMPTED else 0, abs=1)


def test_queue_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask() -> list[QueuedJob]:
        time.sleep(1)
        return []

    monkeypatch.setattr(job_module.commands, "queue", ask)
    monkeypatch.setattr(job_module, "ANSWER_S", 0.05)
    assert BatchJob("7", 0, "gpu1", 0, 0.0).sigterm_cause() == (SigtermCause.STOPPED, 0.0)


def squeue_that_says(folder: Path, state: str, restarts: int) -> Path:
    """A folder for PATH."""
    folder.mkdir()
    squeue = folder / "squeue"
    fields = ["7", state, "N/A", "N/A", str(restarts), "None", "gpu1", "", "serve", "/w", ""]
    squeue.write_text("#!/bin/sh\nprintf '" + "\\037".join(fields) + "\\036'\n")
    squeue.chmod(squeue.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.mark.parametrize(
    ("restarts", "status", "reason"),
    [(0, "stopped", "its job was cancelled"), (1, "pending", "the job is requeued")],
)
def test_cancelled_server_ends_and_a_requeued_one_comes_back(
    bench: Bench, tmp_path: Path, restarts: int, status: str, reason: str
) -> None:
    programs = squeue_that_says(tmp_path / "bin", "COMPLETING", restarts)
    bench.spec = replace(bench.spec, cluster="slurm", max_at_once=None)
    bench.environment = {"SLURM_JOB_ID": "7", "PATH": f"{programs}:{os.environ['PATH']}"}
    bench.order({"running": 1})
    bench.lease()
    bench.wait_for_status("ready")
    started = time.monotonic()
    bench.supervisors[0].send_signal(signal.SIGTERM)
    assert bench.wait_for_exit() == 0
    assert time.monotonic() - started < 5, "Slurm kills what has not ended then"
    assert (bench.state()["status"], bench.state()["reason"]) == (status, reason)
    assert bench.folder().closed.exists() == (status == "stopped")
    assert len(engine_runs_of(bench.folder())) == 1
    assert not bench.folder().endpoint.exists() and bench.leftovers() == []
