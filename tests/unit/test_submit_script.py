"""scripts/submit hands Snakemake to Slurm, and carries on when the job's time ends.

Slurm's programs are stand-ins here: they write down how they were called."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_for

SCRIPT = Path(__file__).parents[2] / "scripts" / "submit"

STAND_IN = f"""#!{sys.executable}
# A stand-in: writes down its arguments and environment, then does what its name is known for.
import json, os, shutil, signal, sys, time
from pathlib import Path

here, name = Path(__file__).resolve().parent, Path(sys.argv[0]).name
record = here / f"{{name}}.json"
part = record.with_suffix(".part")
part.write_text(json.dumps({{"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd()}}))


def sbatch():
    if (here / "refuse").exists():
        print("sbatch: error: Invalid account", file=sys.stderr)
        sys.exit(1)
    index = sys.argv.index("--as-job")
    shutil.copy(sys.argv[index - 1], here / "slurm_script")
    print("4711;cluster")


def scontrol():
    if (here / "refuse").exists():
        print("Requested operation is presently disabled", file=sys.stderr)
        sys.exit(1)
    os.kill(os.getppid(), signal.SIGKILL)  # the job is ended before it starts again


def snakemake():
    behaviour = (here / "behaviour").read_text()
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(behaviour != "deaf"))
    part.replace(record)
    while behaviour != "done" and not any(ended):
        time.sleep(0.01)
    sys.exit(0 if behaviour == "done" else 7)


{{"sbatch": sbatch, "scontrol": scontrol, "snakemake": snakemake}}[name]()
part.replace(record)
"""

HOSTILE = ("--configfile", 'my config\'s "é".yaml', "--config", "a=$HOME; b", "")


class Slurm:
    """A project folder and stand-ins for Slurm and Snakemake."""

    def __init__(self, base: Path) -> None:
        self.project = base / "a project's folder"
        self.bin = base / "bin"
        self.spool = base / "spool"
        (self.project / "scripts").mkdir(parents=True)
        self.bin.mkdir()
        text = SCRIPT.read_text()
        assert "GRACE_S=60" in text
        script = self.project / "scripts" / "submit"
        script.write_text(text.replace("GRACE_S=60", "GRACE_S=1"))
        script.chmod(0o755)
        for name in ("sbatch", "scontrol", "snakemake"):
            (self.bin / name).write_text(STAND_IN)
            (self.bin / name).chmod(0o755)
        (self.project / ".venv" / "bin").mkdir(parents=True)
        (self.project / ".venv" / "bin" / "snakemake").symlink_to(self.bin / "snakemake")
        self.env = {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(base)}
        self.jobs: list[subprocess.Popen[str]] = []
        self.behaves("done")

    def behaves(self, how: str) -> None:
        """How Snakemake does: done, busy (until SIGTERM), or deaf (SIGTERM does nothing)."""
        (self.bin / "behaviour").write_text(how)

    def refuse(self) -> None:
        """Slurm says no from now on."""
        (self.bin / "refuse").touch()

    def called(self, name: str) -> dict[str, Any]:
        """How a program was called last."""
        content: dict[str, Any] = json.loads((self.bin / f"{name}.json").read_text())
        return content

    def was_called(self, name: str) -> bool:
        return (self.bin / f"{name}.json").exists()

    def submit(
        self, *arguments: str, cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Calls scripts/submit."""
        return subprocess.run(
            [self.project / "scripts" / "submit", *arguments],
            cwd=cwd,
            env={**self.env, **env},
            capture_output=True,
            text=True,
        )

    def start(self, **env: str) -> subprocess.Popen[str]:
        """The job, as Slurm starts it: a copy of the script, in the environment of the submission."""
        sbatch = self.called("sbatch")
        shutil.copy(self.bin / "slurm_script", self.spool)
        arguments: Sequence[str] = sbatch["argv"][sbatch["argv"].index("--as-job") :]
        job = {
            "SLURM_JOB_ID": "4711",
            "SLURM_MEM_PER_CPU": "100",
            "SLURMD_NODENAME": "n1",
            "SLURM_CONF": "/c",
        }
        started = subprocess.Popen(
            ["bash", self.spool, *arguments],
            env={**sbatch["env"], **job, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.jobs.append(started)
        return started

    def end(self) -> None:
        """Ends what is left of its jobs."""
        for job in self.jobs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)
            job.communicate()


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Slurm]:
    stand_in = Slurm(tmp_path)
    yield stand_in
    stand_in.end()


@pytest.fixture
def busy_job(slurm: Slurm) -> subprocess.Popen[str]:
    """A job whose Snakemake has work."""
    slurm.behaves("busy")
    slurm.submit("--", "--profile", "p")
    job = slurm.start()
    wait_for(lambda: slurm.was_called("snakemake"), "Snakemake to start", 20)
    return job


def test_flags_reach_sbatch_after_ours(slurm: Slurm, tmp_path: Path) -> None:
    done = slurm.submit("-A", "mine", "--cpus-per-task=1", "--", "--profile", "p", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert slurm.called("sbatch")["argv"] == [
        *("--parsable", "--job-name=slurmeval-controller", "--nodes=1", "--ntasks=1", "--cpus-per-task=2"),
        *("--requeue", "--signal=B:USR1@120", "--open-mode=append", "--output=logs/controller-%j.log"),
        *(f"--chdir={slurm.project}", "-A", "mine", "--cpus-per-task=1"),
        *("scripts/submit", "--as-job", str(slurm.project), "--profile", "p"),
    ]
    assert slurm.called("sbatch")["cwd"] == str(slurm.project)
    assert (slurm.project / "logs").is_dir()


def test_it_says_how_to_follow_and_to_stop(slurm: Slurm) -> None:
    said = slurm.submit("--", "--profile", "p").stdout
    for word in ("job 4711.", "tail -F logs/controller-4711.log", "slurmeval status", "scancel 4711"):
        assert word in said


def test_snakemake_gets_its_arguments_unchanged(slurm: Slurm) -> None:
    slurm.submit("--", *HOSTILE)
    job = slurm.start()
    said, _ = job.communicate(timeout=20)
    assert job.returncode == 0, said
    assert slurm.called("snakemake")["argv"] == list(HOSTILE)
    assert slurm.called("snakemake")["cwd"] == str(slurm.project)
    assert not slurm.was_called("scontrol")


def test_snakemake_sees_nothing_of_its_own_job(slurm: Slurm) -> None:
    slurm.submit(
        "--", SLURM_RESTART_COUNT="9", SLURM_JOB_ID="1", SBATCH_ACCOUNT="mine", SBATCH_TIMELIMIT="60"
    )
    assert "SLURM_JOB_ID" not in slurm.called("sbatch")["env"]
    assert slurm.called("sbatch")["env"]["SBATCH_TIMELIMIT"] == "60"
    said, _ = slurm.start(CUDA_VISIBLE_DEVICES="NoDevFiles", HF_HOME="/hf").communicate(timeout=20)
    assert "start 1," in said
    env = slurm.called("snakemake")["env"]
    about_slurm = {name: value for name, value in env.items() if name.startswith(("SLURM", "SBATCH", "SRUN"))}
    assert about_slurm == {"SLURM_CONF": "/c", "SBATCH_ACCOUNT": "mine"}
    assert env["HF_HOME"] == "/hf"
    assert "CUDA_VISIBLE_DEVICES" not in env


def test_gpus_of_the_job_stay_visible(slurm: Slurm) -> None:
    slurm.submit("--gpus=1", "--")
    slurm.start(CUDA_VISIBLE_DEVICES="0", SLURM_JOB_GPUS="3").communicate(timeout=20)
    assert slurm.called("snakemake")["env"]["CUDA_VISIBLE_DEVICES"] == "0"


def test_job_goes_back_to_the_queue_when_its_time_ends(slurm: Slurm, busy_job: subprocess.Popen[str]) -> None:
    busy_job.send_signal(signal.SIGUSR1)
    said, _ = busy_job.communicate(timeout=20)
    assert slurm.called("scontrol")["argv"] == ["requeue", "4711"]
    assert "back to the queue" in said


def test_snakemake_that_does_not_end_is_killed(slurm: Slurm) -> None:
    slurm.behaves("deaf")
    slurm.submit("--")
    job = slurm.start()
    wait_for(lambda: slurm.was_called("snakemake"), "Snakemake to start", 20)
    job.send_signal(signal.SIGUSR1)
    job.communicate(timeout=20)
    assert slurm.called("scontrol")["argv"] == ["requeue", "4711"]


def test_cancelled_job_ends_snakemake_and_stays_away(slurm: Slurm, busy_job: subprocess.Popen[str]) -> None:
    busy_job.send_signal(signal.SIGTERM)
    said, _ = busy_job.communicate(timeout=20)
    assert busy_job.returncode == 7
    assert "ended with status 7" in said
    assert not slurm.was_called("scontrol")


def test_refused_requeue_is_said(slurm: Slurm, busy_job: subprocess.Popen[str]) -> None:
    slurm.refuse()
    busy_job.send_signal(signal.SIGUSR1)
    said, _ = busy_job.communicate(timeout=20)
    assert busy_job.returncode == 2
    assert "submit it again" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--partition=cpu"], "submit: -- is missing between"),
        (["--output=x", "--"], "submit: --output cannot be given"),
        (["-D", "/", "--"], "submit: -D cannot be given"),
        (["--signal=USR2@9", "--"], "submit: --signal cannot be given"),
    ],
)
def test_wrong_call_is_one_line(slurm: Slurm, arguments: list[str], message: str) -> None:
    done = slurm.submit(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert not slurm.was_called("sbatch")


def test_refusal_of_sbatch_is_shown(slurm: Slurm) -> None:
    slurm.refuse()
    done = slurm.submit("--")
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["sbatch: error: Invalid account", "submit: sbatch refused the job"]


def test_project_that_is_not_set_up_is_said(slurm: Slurm) -> None:
    shutil.rmtree(slurm.project / ".venv")
    assert slurm.submit("--").stderr == "submit: slurmeval is not set up: run scripts/setup\n"


def test_help_says_how(slurm: Slurm, tmp_path: Path) -> None:
    done = slurm.submit("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "scripts/submit [FLAGS OF SBATCH] -- ARGUMENTS OF SNAKEMAKE" in done.stdout
    assert "set -euo" not in done.stdout
