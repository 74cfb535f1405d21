"""Lock files are held by one live process at a time, and a dead one's is taken over."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from slurmeval import processes
from slurmeval.ownership import LockFile, live_owner
from slurmeval.processes import HEARTBEAT_S, SKEW_S, STALE_S, WATCH_S, identity, is_alive
from slurmeval.state.owner import Owner
from slurmeval.state.records import write


@pytest.fixture
def ended_process() -> Owner:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = identity(process.pid)
    process.communicate()
    return owner


def test_second_claim_is_told_the_owner(tmp_path: Path) -> None:
    first = LockFile(tmp_path / "lock")
    assert first.take(token="one") is None
    owner = LockFile(tmp_path / "lock").take()
    assert owner is not None
    assert (owner.pid, owner.token) == (os.getpid(), "one")
    first.release()
    second = LockFile(tmp_path / "lock")
    assert second.take() is None
    second.release()


def test_claim_of_a_dead_process_is_taken_over(tmp_path: Path, ended_process: Owner) -> None:
    path = tmp_path / "lock"
    write(path, ended_process)
    lock_file = LockFile(path)
    assert lock_file.take() is None
    assert json.loads(path.read_text())["pid"] == os.getpid()
    assert [file.name for file in tmp_path.iterdir()] == ["lock"]
    lock_file.release()


def test_reused_process_number_is_another_process() -> None:
    assert is_alive(identity())
    assert not is_alive(replace(identity(), started=1))


class Clocks:
    """This host's clocks, as slurmeval.processes sees them: `ahead_s` is the error of the wall clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_s = self.passed_s = 0.0
        wall, steady = time.time, time.monotonic
        monkeypatch.setattr(processes.time, "time", lambda: wall() + self.ahead_s + self.passed_s)
        monkeypatch.setattr(processes.time, "monotonic", lambda: steady() + self.passed_s)
        monkeypatch.setattr(processes, "_heartbeats", {})
        monkeypatch.setattr(processes, "_ahead", {})


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """The lock file of a process on another host."""
    path = tmp_path / "lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": 1}))
    return path


def modified_ago(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds, time.time() - seconds))


def test_owner_on_another_host_lives_while_its_heartbeat_changes(elsewhere: Path, clocks: Clocks) -> None:
    assert live_owner(elsewhere) is not None
    clocks.passed_s = STALE_S + 1
    assert live_owner(elsewhere) is None
    os.utime(elsewhere)
    assert live_owner(elsewhere) is not None
    elsewhere.unlink()
    assert live_owner(elsewhere) is None


def test_owner_that_was_silent_for_long_at_first_sight_is_gone(elsewhere: Path, clocks: Clocks) -> None:
    modified_ago(elsewhere, STALE_S + SKEW_S + 1)
    assert live_owner(elsewhere) is None


def test_age_of_a_file_is_told_by_the_clock_that_dates_files(elsewhere: Path, clocks: Clocks) -> None:
    clocks.ahead_s = 3600.0
    assert processes.age_s(elsewhere) < 5, "nobody takes a partial download that goes on for an orphan"


@pytest.mark.parametrize("ahead_s", [90.0, 3600.0, -90.0, -3600.0])
def test_clock_that_goes_wrong_on_this_node_takes_nobody_for_dead(
    elsewhere: Path, clocks: Clocks, ahead_s: float
) -> None:
    clocks.ahead_s = ahead_s
    assert live_owner(elsewhere) is not None
    assert processes.silence_s(elsewhere) < 5
    assert LockFile(elsewhere).take() is not None


def test_owner_whose_clock_dates_its_own_beats_is_watched_before_it_counts_as_gone(
    elsewhere: Path, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    modified_ago(elsewhere, 90)  # it has just beaten, by a clock that is 90 s behind
    assert live_owner(elsewhere) is not None
    clocks.passed_s = HEARTBEAT_S
    modified_ago(elsewhere, 90 - HEARTBEAT_S)
    assert live_owner(elsewhere) is not None
    clocks.passed_s += STALE_S - 1
    assert live_owner(elsewhere) is not None
    clocks.passed_s += 2
    assert live_owner(elsewhere) is None


def test_owner_that_looks_dead_and_does_not_beat_while_it_is_watched_is_gone(
    elsewhere: Path, clocks: Clocks
) -> None:
    modified_ago(elsewhere, 90)
    assert live_owner(elsewhere) is not None
    clocks.passed_s = WATCH_S + 1
    assert live_owner(elsewhere) is None
    lock_file = LockFile(elsewhere)
    assert lock_file.take() is None
    lock_file.release()


def test_owner_whose_clock_is_ahead_does_not_outlive_its_death(elsewhere: Path, clocks: Clocks) -> None:
    modified_ago(elsewhere, -3600)
    assert live_owner(elsewhere) is not None
    clocks.passed_s = STALE_S + 1
    assert live_owner(elsewhere) is None


def test_half_written_claim_counts_while_it_is_young(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text('{"host": "x')
    assert live_owner(path) is not None
    os.utime(path, (0, 0))
    lock_file = LockFile(path)
    assert lock_file.take() is None
    lock_file.release()


def test_of_many_that_see_a_dead_owner_one_takes_over(tmp_path: Path, ended_process: Owner) -> None:
    path = tmp_path / "lock"
    write(path, ended_process)
    code = (
        "import sys; from pathlib import Path; from slurmeval.ownership import LockFile\n"
        "input(); print('won' if LockFile(Path(sys.argv[1])).take() is None else 'lost', flush=True); input()"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("\n")
        racer.stdin.flush()
    said = [racer.stdout.readline().strip() for racer in racers if racer.stdout]
    for racer in racers:
        racer.communicate("\n")
    assert sorted(said) == ["lost"] * 5 + ["won"]
