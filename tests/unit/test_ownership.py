"""Claims are held by one live process at a time, and a dead one's is taken over."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurmeval.ownership import Claim, live_owner
from slurmeval.processes import STALE_S, identity, is_alive


@pytest.fixture
def ended_process() -> dict[str, object]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = identity(process.pid)
    process.communicate()
    return owner


def test_second_claim_is_told_the_owner(tmp_path: Path) -> None:
    first = Claim(tmp_path / "claim")
    assert first.take(token="one") is None
    owner = Claim(tmp_path / "claim").take()
    assert owner is not None
    assert (owner["pid"], owner["token"]) == (os.getpid(), "one")
    first.release()
    second = Claim(tmp_path / "claim")
    assert second.take() is None
    second.release()


def test_claim_of_a_dead_process_is_taken_over(tmp_path: Path, ended_process: dict[str, object]) -> None:
    path = tmp_path / "claim"
    path.write_text(json.dumps(ended_process))
    claim = Claim(path)
    assert claim.take() is None
    assert json.loads(path.read_text())["pid"] == os.getpid()
    assert [file.name for file in tmp_path.iterdir()] == ["claim"]
    claim.release()


def test_reused_process_number_is_another_process() -> None:
    assert is_alive(identity())
    assert not is_alive({**identity(), "started": 1})


def test_owner_on_another_host_lives_while_it_beats(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": 1}))
    assert live_owner(path) is not None
    old = time.time() - STALE_S - 1
    os.utime(path, (old, old))
    assert live_owner(path) is None


def test_half_written_claim_counts_while_it_is_young(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    path.write_text('{"host": "x')
    assert live_owner(path) is not None
    os.utime(path, (0, 0))
    claim = Claim(path)
    assert claim.take() is None
    claim.release()


def test_of_many_that_see_a_dead_owner_one_takes_over(
    tmp_path: Path, ended_process: dict[str, object]
) -> None:
    path = tmp_path / "claim"
    path.write_text(json.dumps(ended_process))
    code = (
        "import sys; from pathlib import Path; from slurmeval.ownership import Claim\n"
        "input(); print('won' if Claim(Path(sys.argv[1])).take() is None else 'lost', flush=True); input()"
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
