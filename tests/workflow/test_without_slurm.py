"""The cluster's profile on a machine that has no Slurm at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH has no program of Slurm."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "sh", "git", "env", "uname"):
        (programs / name).symlink_to(str(shutil.which(name)))
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{programs}"}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a clone has, and no more."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("Snakefile", "workflow", "profiles", "containers", "config"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def run(folder: Path, environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", "--configfile"]
    return subprocess.run(
        [*command, "config/demo.yaml", *options],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_run_is_planned(clone: Path, elsewhere: dict[str, str]) -> None:
    done = run(clone, elsewhere, "-n")
    assert done.returncode == 0, done.stdout
    assert "2 servers and 10 evaluations: 12 Slurm jobs" in done.stdout
    assert not (clone / "results").exists()


def test_a_run_says_in_one_line_that_there_is_no_slurm(clone: Path, elsewhere: dict[str, str]) -> None:
    done = run(clone, elsewhere, "--quiet", "all")
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("slurmeval:")]
    assert "Slurm does not answer here" in line
    assert "Traceback" not in done.stdout
    assert not list((clone / "results" / "demo").glob("state/controller.json"))
