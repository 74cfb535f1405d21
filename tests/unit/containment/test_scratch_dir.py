"""Scratch folders on the node's disk: there while an evaluation runs, and gone whatever its end."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurmeval.containment.scratch_dir import ScratchDir, scratch_dir

STAY = (
    "import sys, time; from slurmeval.containment.scratch_dir import scratch_dir\n"
    "with scratch_dir() as made: print(made.folder, flush=True); time.sleep(60)"
)
LONG_AGO = (0, 0)


@pytest.fixture(autouse=True)
def _node(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tempfile.mkdtemp(prefix="node-", dir="/tmp")
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", folder)
    yield
    shutil.rmtree(folder)


def another() -> tuple[subprocess.Popen[str], ScratchDir]:
    """The folder of another process, made long ago."""
    process = subprocess.Popen([sys.executable, "-c", STAY], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    made = ScratchDir(Path(process.stdout.readline().strip()))
    os.utime(made.folder, LONG_AGO)
    return process, made


def end(process: subprocess.Popen[str], number: signal.Signals) -> None:
    process.send_signal(number)
    process.communicate()


def test_a_folder_is_this_users_alone_and_goes() -> None:
    with scratch_dir() as made:
        assert made.folder.stat().st_mode & 0o777 == 0o700
        assert made.temporary.is_dir() and made.socket_folder.is_dir()
        (made.temporary / "left behind").touch()
    assert not made.folder.exists()


def test_the_folder_of_one_that_was_killed_goes_with_the_next() -> None:
    process, abandoned = another()
    end(process, signal.SIGKILL)
    assert abandoned.folder.exists()
    with scratch_dir():
        assert not abandoned.folder.exists()


def test_the_folder_of_one_that_lives_stays() -> None:
    process, others = another()
    with scratch_dir():
        assert others.socket_folder.is_dir()
    end(process, signal.SIGKILL)


def test_a_folder_that_is_just_being_made_stays() -> None:
    with scratch_dir() as made:
        made.lock.unlink()
        with scratch_dir():
            assert made.socket_folder.is_dir()


@pytest.mark.parametrize("name", ["d" * 80, "my folder", "$HOME"])
def test_a_folder_that_harnesses_would_trip_over_is_not_used(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", f"/tmp/{name}")
    with scratch_dir() as made:
        assert made.folder.parent == Path("/tmp")
