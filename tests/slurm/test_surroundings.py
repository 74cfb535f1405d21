"""What a user's shell exports, and what a site file gets wrong, on a real cluster."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.slurm.project import ClusterProject
from tests.waiting import wait_for


def test_nothing_that_a_users_shell_exports_alters_or_ends_a_run(
    project: ClusterProject, projects_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shadow = projects_folder / "module" / "pydantic"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text("raise ImportError('a foreign pydantic')\n")
    exported = {
        "PYTHONPATH": str(shadow.parent),
        "PYTHONOPTIMIZE": "2",
        "HOME": "/sys",  # it cannot be written
        "LC_ALL": "zh_CN.GBK",
        "SSL_CERT_FILE": "/opt/conda/ssl/cacert.pem",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "SLURM_JOB_ID": "4711",
        "SLURM_MEM_PER_CPU": "2048",
        "SBATCH_TIMELIMIT": "1",
        "CUDA_VISIBLE_DEVICES": "7",
    }
    for name, value in exported.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    project.host += ["bash", "-c", 'umask 077; exec "$@"', "bash"]
    project.finish(project.start())


def test_server_whose_name_does_not_resolve_on_its_node_fails_in_seconds(project: ClusterProject) -> None:
    project.site["servers"]["address"] = "{host}.nowhere.invalid"
    project.config["suites"]["all"] = ["first"]
    started = time.monotonic()
    done = project.run()
    assert done.returncode == 1
    assert "servers.address in site.yaml gives gpu1.nowhere.invalid, which gpu1 itself cannot" in done.stdout
    assert time.monotonic() - started < 90, "it waited for ready_timeout_s"


def test_setup_line_that_fails_ends_an_evaluations_job_which_says_so(project: ClusterProject) -> None:
    project.site["evaluations"]["setup"] = ["module load CUDA/99"]
    project.config["suites"]["all"] = ["first"]
    done = project.run()
    assert done.returncode == 1
    said = "its last words: slurmeval: a line of setup in site.yaml failed: module load CUDA/99"
    assert said in " ".join(done.stdout.split())


def doctor(project: ClusterProject, *arguments: str) -> list[str]:
    """The command that asks the cluster's nodes."""
    project.command()  # writes config and profile
    base = [*project.host, sys.executable, "-m", "slurmeval", "doctor", "--offline", "--site", "profile"]
    return [*base, "--configfile", "config.yaml", *arguments]


def test_doctor_asks_the_nodes_and_leaves_nothing(project: ClusterProject) -> None:
    done = project.run_command(doctor(project))
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert any(line.startswith("ok   servers: job ") and " began on gpu" in line for line in lines), lines
    assert any(line.startswith("ok   evaluations: job ") and " began on cpu" in line for line in lines)
    assert "warn servers: GPUs: 1 given (0), but there is no nvidia-smi on this node" in done.stdout
    assert any(re.match(r"ok   servers: ports between nodes: cpu. reaches gpu.", line) for line in lines), (
        lines
    )
    assert "results, environments, HF_HOME are the same there" in done.stdout
    assert list(project.folder.glob("**/.slurmeval-doctor-*")) == []
    wait_for(lambda: not project.jobs(), "the jobs to end", 30)


def test_doctor_says_which_folder_nodes_do_not_see(project: ClusterProject) -> None:
    done = project.run_command(doctor(project, "--results", "/dev/shm/slurmeval-doctor-test"))
    assert done.returncode == 1
    assert re.search(r"bad  servers: gpu. does not see .* or cannot write to /dev/shm", done.stdout), (
        done.stdout
    )


def test_doctor_that_is_interrupted_or_waits_too_long_leaves_no_job(project: ClusterProject) -> None:
    project.site["evaluations"]["extra"] = ["--begin=now+2hours"]
    done = project.run_command(doctor(project, "--wait", "0.1"))
    assert done.returncode == 1
    assert "bad  evaluations: job " in done.stdout
    assert "still waits (BeginTime" in done.stdout
    assert "warn servers: ports between nodes: not tried" in done.stdout
    with subprocess.Popen(doctor(project), cwd=project.folder, start_new_session=True) as process:
        wait_for(lambda: len(project.jobs()) == 2, "the jobs to be submitted", 60)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) != 0
    wait_for(lambda: not project.jobs(), "the jobs to end", 30)
