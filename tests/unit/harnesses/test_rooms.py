"""Rooms on the node's disk: there while an evaluation runs, and gone whatever its end."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurmeval.harnesses.rooms import Room, room

STAY = (
    "import sys, time; from slurmeval.harnesses.rooms import room\n"
    "with room() as made: print(made.folder, flush=True); time.sleep(60)"
)
LONG_AGO = (0, 0)


@pytest.fixture(autouse=True)
def _node(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tempfile.mkdtemp(prefix="node-", dir="/tmp")
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", folder)
    yield
    shutil.rmtree(folder)


def another() -> tuple[subprocess.Popen[str], Room]:
    """The room of another process, made long ago."""
    process = subprocess.Popen([sys.executable, "-c", STAY], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    made = Room(Path(process.stdout.readline().strip()))
    os.utime(made.folder, LONG_AGO)
    return process, made


def end(process: subprocess.Popen[str], number: signal.Signals) -> None:
    process.send_signal(number)
    process.communicate()


def test_a_room_is_this_users_alone_and_goes() -> None:
    with room() as made:
        assert made.folder.stat().st_mode & 0o777 == 0o700
        assert made.scratch.is_dir() and made.way.is_dir()
        (made.scratch / "left behind").touch()
    assert not made.folder.exists()


def test_the_room_of_one_that_was_killed_goes_with_the_next() -> None:
    process, abandoned = another()
    end(process, signal.SIGKILL)
    assert abandoned.folder.exists()
    with room():
        assert not abandoned.folder.exists()


def test_the_room_of_one_that_lives_stays() -> None:
    process, others = another()
    with room():
        assert others.way.is_dir()
    end(process, signal.SIGKILL)


def test_a_room_that_is_just_being_made_stays() -> None:
    with room() as made:
        made.lock.unlink()
        with room():
            assert made.way.is_dir()


@pytest.mark.parametrize("name", ["d" * 80, "my folder", "$HOME"])
def test_a_folder_that_harnesses_would_trip_over_is_not_used(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", f"/tmp/{name}")
    with room() as made:
        assert made.folder.parent == Path("/tmp")
