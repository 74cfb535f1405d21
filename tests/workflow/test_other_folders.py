"""The workflow runs from the installed package, and in a folder that is not the clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT

SOURCES = ("src", "config", "containers", "profiles", "workflow", "Snakefile", "README.md", "LICENSE")


def run(command: list[str | Path], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, "XDG_CACHE_HOME": str(cwd / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The Python of a fresh environment with the wheel; other packages are this environment's."""
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
            shutil.copytree(source, clone / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, clone / name)
    shutil.copy(ROOT / "pyproject.toml", clone)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path / "wheel", clone]
    built = run(build, tmp_path)
    assert built.returncode == 0, built.stdout
    shutil.rmtree(clone)
    environment = tmp_path / "environment"
    made = run([sys.executable, "-m", "venv", "--without-pip", environment], tmp_path)
    assert made.returncode == 0, made.stdout
    (packages,) = environment.glob("lib/python*/site-packages")
    (wheel,) = (tmp_path / "wheel").glob("slurmeval-*.whl")
    unpacked = run([sys.executable, "-m", "zipfile", "-e", wheel, packages], tmp_path)
    assert unpacked.returncode == 0, unpacked.stdout
    (packages / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return environment / "bin" / "python"


@pytest.mark.parametrize("site", ["local", "slurm"])
def test_a_wheel_holds_a_workflow_that_can_be_planned(
    python: Path, weights: Path, tmp_path: Path, site: str
) -> None:
    module = [python, "-m"]
    made = run([*module, "slurmeval", "init", "project", "--site", site, "--model", weights], tmp_path)
    assert made.returncode == 0, made.stdout
    where = run([python, "-c", "import slurmeval; print(slurmeval.__file__)"], tmp_path / "project")
    assert where.stdout.startswith(str(python.parents[1]))
    plan = run([*module, "snakemake", "-n"], tmp_path / "project")
    assert plan.returncode == 0, plan.stdout
    verb = "Will start" if site == "local" else "Will submit"
    assert f"{verb} 1 server and 1 evaluation" in plan.stdout
    assert str(tmp_path / "clone") not in plan.stdout


def test_a_clone_s_workflow_runs_in_another_folder(weights: Path, tmp_path: Path) -> None:
    module = [sys.executable, "-m"]
    made = run([*module, "slurmeval", "init", "project", "--site", "local", "--model", weights], tmp_path)
    assert made.returncode == 0, made.stdout
    shutil.rmtree(tmp_path / "project" / "profiles")
    (tmp_path / "project" / "Snakefile").unlink()
    shutil.copytree(ROOT / "profiles" / "slurm", tmp_path / "mine")
    for profile, verb in ((ROOT / "profiles" / "local", "start"), (Path("mine"), "submit")):
        options: list[str | Path] = ["-s", ROOT / "Snakefile", "--directory", "project", "--profile", profile]
        plan = run([*module, "snakemake", "-n", *options], tmp_path)
        assert plan.returncode == 0, plan.stdout
        assert f"Will {verb} 1 server and 1 evaluation" in plan.stdout
    assert not (tmp_path / "results").exists()
