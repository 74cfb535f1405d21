"""Submission with submitit: its local executor around a stand-in for vLLM, and Slurm in outline."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from slurmeval.errors import ServerFailed
from slurmeval.files import read_json, write_json
from slurmeval.processes import is_alive
from slurmeval.servers.folder import ServerFolder
from slurmeval.servers.leases import acquire, release, submit_detached
from slurmeval.state.records import load
from slurmeval.state.server import ServerJob
from slurmeval.state.server_spec import JobParameters
from tests.unit.servers.conftest import PROJECT, Bench
from tests.waiting import wait_for


def test_job_lives_in_a_session_of_its_own_and_goes_with_its_lease(bench: Bench) -> None:
    lease = acquire(bench.spec, "arc", bench.controller)
    job = load(bench.folder().job, ServerJob)
    assert (job.job_id, job.cluster) == (lease.job_id, "local")
    assert job.process is not None
    bench.wait_for_status("ready")
    assert os.getsid(int(job.job_id)) != os.getsid(0)
    assert Path(f"/proc/{job.job_id}/fd/1").readlink() == bench.folder().submit_log
    release(bench.lease_path())
    bench.wait_for_status("stopped")
    wait_for(lambda: not is_alive(job.process), "the job's end")
    assert bench.leftovers() == []


def test_folder_is_submitted_once(bench: Bench) -> None:
    acquire(bench.spec, "arc", bench.controller)
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
    acquire(bench.spec, "arc", bench.controller, submit_detached)
    bench.wait_for_status("ready")
    first = bench.state()["owner"]
    os.kill(first["pid"], signal.SIGUSR2)
    wait_for(lambda: bench.state().get("owner") not in (None, first), "the job's second start")
    state = bench.wait_for_status("ready")
    assert state["engine_run"] == 2
    assert not bench.folder().closed.exists()
    release(bench.lease_path())
    bench.wait_for_status("stopped")
    assert bench.leftovers() == []


class Slurm:
    """Programs of Slurm that write down what they were given and answer in turn."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("sbatch", "srun", "squeue"):
            self.program(name, "exit 0")

    def program(self, name: str, body: str) -> None:
        file = self.folder / name
        file.write_text(f"#!/bin/sh\ncd '{self.folder}'\n{body}\n")
        file.chmod(0o755)

    def sbatch(self, *answers: str) -> None:
        """One after another; each is shell."""
        cases = "".join(f"{number}) {answer} ;;\n" for number, answer in enumerate(answers, 1))
        script = "echo $OLDPWD > cwd; cat > script; env > env; echo x >> calls"
        self.program("sbatch", f"{script}\ncase $(wc -l < calls) in\n{cases}*) echo 7 ;;\nesac")

    @property
    def calls(self) -> int:
        return len((self.folder / "calls").read_text().splitlines())


@pytest.fixture
def slurm(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    job = JobParameters(
        timeout_min=60,
        slurm_additional_parameters={"partition": "gpu", "requeue": True},
        slurm_setup=["module load CUDA"],
    )
    bench.spec = replace(
        bench.spec,
        cluster="slurm",
        max_at_once=None,
        time_limit_min=60,
        drain_s=90,
        job=job,
    )
    slurm = Slurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{slurm.folder}:{os.environ['PATH']}")
    return slurm


def test_slurm_is_asked_for_what_the_spec_says_and_nothing_else(bench: Bench, slurm: Slurm) -> None:
    slurm.sbatch("echo 7")
    assert acquire(bench.spec, "arc", bench.controller).job_id == "7"
    script = (slurm.folder / "script").read_text()
    logs = bench.folder().submitit
    assert {line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")} == {
        *("--job-name=serve-smol", "--partition=gpu", "--requeue", "--nodes=1", "--ntasks-per-node=1"),
        *("--time=60", "--signal=USR2@120", "--open-mode=append"),
        *(f"--{kind}='{logs}/%j_0_log.{end}'" for kind, end in (("output", "out"), ("error", "err"))),
    }
    assert "module load CUDA" in script
    assert (slurm.folder / "cwd").read_text().strip() == str(bench.folder().path)
    job = read_json(bench.folder().job)
    assert job.pop("submitted_at").endswith("+00:00")
    expected = {"job_id": "7", "cluster": "slurm", "name": "serve-smol", "process": None}
    assert job == {"format": 1, **expected}


def test_job_inherits_no_secret_and_nothing_of_the_job_that_submits_it(
    bench: Bench, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {"HF_TOKEN": "x", "OPENAI_API_KEY": "x", "SLURM_JOB_ID": "1", "SBATCH_TIMELIMIT": "5"}
    gone |= {"SBATCH_PARTITION": "mine", "SRUN_CPUS_PER_TASK": "1"}
    kept = {"SBATCH_ACCOUNT": "P1", "SLURM_CONF": "/etc/slurm.conf", "NCCL_DEBUG": "INFO"}
    for name, value in (gone | kept).items():
        monkeypatch.setenv(name, value)
    slurm.sbatch("echo 7")
    acquire(bench.spec, "arc", bench.controller)
    environment = dict(line.split("=", 1) for line in (slurm.folder / "env").read_text().splitlines())
    assert not gone.keys() & environment.keys()
    assert kept.items() <= environment.items()


def test_refusal_is_sbatchs_own_words_in_one_line(bench: Bench, slurm: Slurm) -> None:
    words = "sbatch: error: Batch job submission failed: Invalid account or account/partition combination"
    slurm.sbatch(f"echo '{words}' >&2; exit 1")
    with pytest.raises(ServerFailed, match="Invalid account or account/partition combination") as caught:
        acquire(bench.spec, "arc", bench.controller)
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)
    assert slurm.calls == 1


def test_slurm_that_is_away_is_asked_again(bench: Bench, slurm: Slurm) -> None:
    slurm.sbatch("echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1")
    assert acquire(bench.spec, "arc", bench.controller).job_id == "7"
    assert slurm.calls == 2


def test_job_whose_submission_went_unanswered_is_found_in_the_queue(bench: Bench, slurm: Slurm) -> None:
    slurm.sbatch("echo 'Socket timed out on send/recv operation' >&2; exit 1")
    fields = ["9", "PENDING", "N/A", "N/A", "0", "None", "", "", "serve", str(bench.folder().path), ""]
    slurm.program("squeue", "printf '%s\\037' " + shlex.join(fields[:-1]) + "; printf '\\036'")
    assert acquire(bench.spec, "arc", bench.controller).job_id == "9"
    assert slurm.calls == 1


def test_slots_are_jobs_of_one_name_and_ranks_go_together(bench: Bench, slurm: Slurm) -> None:
    slurm.sbatch("echo 7")
    bench.spec = replace(bench.spec, nodes=2, job=replace(bench.spec.job, nodes=2))

    def submit(folder: Path) -> None:
        argv = [sys.executable, "-m", "slurmeval.servers.submit", str(folder)]
        argv += ["--name", "slurmeval-1-0", "--one-at-a-time"]
        subprocess.run(argv, check=True, cwd=PROJECT)

    acquire(bench.spec, "arc", bench.controller, submit)
    script = (slurm.folder / "script").read_text()
    assert "#SBATCH --job-name=slurmeval-1-0\n" in script
    assert "#SBATCH --dependency=singleton\n" in script
    assert "--kill-on-bad-exit=1" in script
    assert read_json(bench.folder().job)["name"] == "slurmeval-1-0"


def test_job_that_cannot_be_requeued_closes_its_server(bench: Bench, slurm: Slurm) -> None:
    bench.spec = replace(bench.spec, drain_s=1)
    slurm.program("scontrol", "exit 1")
    code = (
        "import os, signal, subprocess, sys; from pathlib import Path; "
        "from slurmeval.servers.supervisor import Supervisor; supervisor = Supervisor(Path(sys.argv[1])); "
        "signal.signal(signal.SIGUSR2, lambda *_: "
        "(supervisor.suspend(), subprocess.run(['scontrol', 'requeue', '7'], check=True))); supervisor()"
    )

    def submit(folder: Path) -> None:
        bench.supervisors.append(subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=PROJECT))
        write_json(ServerFolder(folder).job, {"job_id": "7", "cluster": "slurm"})

    acquire(bench.spec, "arc", bench.controller, submit)
    bench.wait_for_status("ready")
    bench.supervisors[0].send_signal(signal.SIGUSR2)
    assert bench.wait_for_exit() == 0
    assert bench.state()["status"] == "stopped"
    assert "it cannot be requeued" in bench.state()["reason"]
    assert bench.folder().closed.exists() and bench.leftovers() == []
