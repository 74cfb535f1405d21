"""What a user's shell exports, and what a site file gets wrong, on a real cluster."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.slurm.project import ClusterProject


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
