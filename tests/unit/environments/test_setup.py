"""scripts/setup says what a machine lacks."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder with nothing set up."""
    folder = tmp_path / "a project"
    (folder / "scripts").mkdir(parents=True)
    (folder / "containers/locks").mkdir(parents=True)
    shutil.copy(PROJECT / "scripts/setup", folder / "scripts/setup")
    (folder / "containers/locks/slurmeval.lock").write_text("uv==0.9.0\n")
    (folder / "pyproject.toml").write_text("")
    return folder


def run(project: Path, python: str) -> subprocess.CompletedProcess[str]:
    """Setup with a shell script for a Python: what it does for every call."""
    program = project.parent / "some python"
    program.write_text(f"#!/bin/sh\n{python}\n")
    program.chmod(0o755)
    environment = dict(os.environ) | {"PYTHON": str(program)}
    argv = [str(project / "scripts/setup")]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)


def test_old_python_is_refused(project: Path) -> None:
    done = run(project, "exit 1")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr
    assert not (project / ".venv").exists()


def test_python_without_ensurepip_says_what_to_install(project: Path) -> None:
    done = run(project, 'case "$2" in *ensurepip*) exit 1;; esac')
    assert done.returncode == 1
    assert "install python3-venv" in done.stderr


def test_failing_install_gives_the_reason_and_the_next_run_tries_again(project: Path) -> None:
    fake = (
        'if [ "$1" = -m ]; then mkdir -p .venv/bin; cp "$0" .venv/bin/python; fi\n'
        'case "$*" in *"pip install"*) echo "ERROR: no such host" >&2; exit 1;; esac'
    )
    for _ in range(2):
        done = run(project, fake)
        assert done.returncode == 1
        assert "setup: installing failed: ERROR: no such host (log: .venv/setup.log)" in done.stderr


def test_nothing_is_done_when_nothing_changed(project: Path) -> None:
    fake = 'if [ "$2" = venv ]; then mkdir -p .venv/bin; cp "$0" .venv/bin/python; fi\necho "$@" >> calls'
    assert "is ready" in run(project, fake).stderr
    calls = (project / "calls").read_text()
    assert "uv==0.9.0" in calls
    assert "is up to date" in run(project, fake).stderr
    assert (project / "calls").read_text() == calls
    (project / "containers/locks/slurmeval.lock").write_text("uv==0.9.1\n")
    assert "is ready" in run(project, fake).stderr
