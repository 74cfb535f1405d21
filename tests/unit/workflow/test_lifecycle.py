"""The end of a run on a cluster: nothing of it stays in the queue, or it is named."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pytest

from slurmeval.files import read_json, write_json
from slurmeval.processes import identity
from slurmeval.scheduling.evaluation_jobs import SlurmJobs
from slurmeval.scheduling.leasing import lease, lease_files, release
from slurmeval.scheduling.silent_servers import SILENT_S, SilentServers
from slurmeval.slurm.commands import job_name
from slurmeval.workflow import lifecycle
from tests.unit.scheduling.conftest import Run, StandInSlurm

PAIR = ("tiny", "first")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "LEAVE_S", 0.6)


@pytest.fixture
def server_job(run: Run, slurm: StandInSlurm) -> str:
    """A server that runs."""
    run.slurm_name = job_name(run.paths.results, "serve-tiny")
    lease(run.document, *PAIR)
    job_id = str(read_json(run.server().job)["job_id"])
    slurm.start(job_id)
    run.state("ready")
    return job_id


def test_a_server_that_is_frozen_does_not_keep_its_gpu(
    run: Run, slurm: StandInSlurm, server_job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    release(run.document, *PAIR)
    lifecycle.wait_for_jobs(run.paths)
    assert server_job not in slurm.jobs
    assert f"job {server_job} of tiny/0001 is cancelled: it was silent" in capsys.readouterr().out


def test_what_stays_in_the_queue_is_named(
    run: Run,
    slurm: StandInSlurm,
    server_job: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    release(run.document, *PAIR)
    monkeypatch.setattr(SilentServers, "look", lambda *_: None)
    lifecycle.wait_for_jobs(run.paths)
    words = f"job {server_job} of tiny/0001 is still in the queue (RUNNING): scancel {server_job}"
    assert words in capsys.readouterr().out


def test_what_slurm_put_back_is_cancelled(run: Run, slurm: StandInSlurm, server_job: str) -> None:
    evaluation = SlurmJobs(run.document, clock=run.clock).submit(*PAIR, "true")
    assert evaluation is not None
    release(run.document, *PAIR)
    run.server().closed.touch()
    partition = run.paths.evaluation(*PAIR)
    partition.parent.mkdir(parents=True)
    partition.touch()
    for job_id in (server_job, evaluation.job_id):
        slurm.start(job_id, "launch failed requeued held", state="PENDING")
    lifecycle.wait_for_jobs(run.paths)
    assert not slurm.jobs


def test_evaluations_that_go_on_are_not_waited_for(
    run: Run, slurm: StandInSlurm, server_job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = SlurmJobs(run.document, clock=run.clock).submit(*PAIR, "true")
    assert evaluation is not None
    slurm.start(evaluation.job_id)
    write_json(run.document.lock_file(*PAIR), asdict(identity()))
    lifecycle.wait_for_jobs(run.paths)
    assert set(slurm.jobs) == {server_job, evaluation.job_id}
    assert not capsys.readouterr().out


@pytest.mark.parametrize("what", ["silent", "leased", "beating"])
def test_in_a_run_a_silent_server_is_cancelled_once_nobody_leases_it(
    run: Run, slurm: StandInSlurm, server_job: str, what: str
) -> None:
    if what != "leased":
        lease_files(run.document, *PAIR)[0].unlink()
    silent = SilentServers(run.paths, clock=run.clock)
    for number in range(4):
        silent.look(slurm.jobs)
        run.now += SILENT_S / 3
        if what == "beating":
            os.utime(run.server().state, (number, number))
    silent.look(slurm.jobs)
    assert (server_job in slurm.jobs) is (what != "silent")
    assert run.server().gone.exists() is (what == "silent")


def test_a_folder_without_servers_has_nothing_to_wait_for(run: Run, slurm: StandInSlurm) -> None:
    slurm.add(["--job-name=other"], Path("/"))
    lifecycle.wait_for_jobs(run.paths)
    assert len(slurm.jobs) == 1
