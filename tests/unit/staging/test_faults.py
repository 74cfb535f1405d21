"""What goes wrong while staging: one line, nothing half-made, and the next run carries on."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from slurmeval.config.sources import Weights
from slurmeval.errors import UserError
from slurmeval.staging.manifest import verify
from slurmeval.staging.models import stage_model
from slurmeval.state.manifest import Manifest
from slurmeval.state.records import load
from tests.stand_ins.stand_in_hub import StandInHub
from tests.waiting import wait_for

from .conftest import MODEL, share_blobs

Stage = Callable[..., Manifest]
QUIZ = {"data/test.parquet": os.urandom(200_000), "README.md": b"x"}
IN_ANOTHER_PROCESS = """
import resource, sys
from pathlib import Path
from slurmeval.config.sources import Dataset
from slurmeval.errors import SlurmevalError
from slurmeval.staging.datasets import stage_dataset
name, commit, output, home, largest = sys.argv[1:]
if int(largest):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest), int(largest)))
try:
    stage_dataset(name, Dataset(repo="acme/quiz", revision=commit), Path(output), Path(home), Path())
except SlurmevalError as error:
    sys.exit(f"said: {error}")
"""


def start(
    name: str, commit: str, output: Path, hf_home: Path, largest: int = 0, prefix: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """Stages the dataset in a process of its own."""
    argv = [sys.executable, "-c", IN_ANOTHER_PROCESS, name, commit, str(output), str(hf_home), str(largest)]
    return subprocess.Popen([*prefix, *argv], stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit status, and its last line."""
    _, stderr = process.communicate(timeout=60)
    return process.returncode, (stderr.strip().splitlines() or [""])[-1]


def test_two_processes_that_stage_one_dataset_download_it_once(
    hub: StandInHub, hf_home: Path, tmp_path: Path
) -> None:
    commit = hub.add("dataset", "acme/quiz", QUIZ)
    hub.faults.stall = threading.Event()
    outputs = [tmp_path / "a.json", tmp_path / "b.json"]
    running = [start("quiz", commit, outputs[0], hf_home)]
    wait_for(lambda: hub.downloads("/content/"), "the first to download")
    running.append(start("quiz", commit, outputs[1], hf_home))
    assert running[1].stderr is not None
    wait_for(lambda: "is at it; waiting" in str(running[1].stderr.readline()), "the second to wait")
    stall, hub.faults.stall = hub.faults.stall, None
    stall.set()
    assert [end(process)[0] for process in running] == [0, 0]
    # cut short by the stall, begun again once by the first process, and never asked for by the second
    assert hub.downloads("/content/") <= 2
    first, second = (load(output, Manifest) for output in outputs)
    assert first.files == second.files
    assert [verify(output, full=True) for output in outputs] == [[], []]


def test_models_that_share_weights_download_them_once(hub: StandInHub, hf_home: Path, tmp_path: Path) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    weights = Weights(repo="acme/tiny", revision=commit)
    for name in ("a", "b", "c"):
        stage_model(name, weights, tmp_path / f"{name}.json", hf_home, tmp_path)
    assert hub.downloads("model.safetensors") == 1
    assert sum(path.startswith("/api/") for _, path, _ in hub.seen) == 1


def test_claim_of_a_dead_process_is_taken_over(hub: StandInHub, stage: Stage, hf_home: Path) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    dead = subprocess.Popen(["true"])
    dead.wait()
    lock_file = hf_home / "slurmeval" / "hub" / "models--acme--tiny.owner"
    lock_file.parent.mkdir(parents=True)
    lock_file.write_text(json.dumps({"host": socket.gethostname(), "pid": dead.pid, "started": 1}))
    assert stage(Weights(repo="acme/tiny", revision=commit)).revision == commit
    assert not lock_file.exists()


def test_lock_of_a_killed_client_is_removed_where_only_files_lock(
    hub: StandInHub, stage: Stage, hf_home: Path
) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    locks = hf_home / "hub" / ".locks" / "models--acme--tiny"
    locks.mkdir(parents=True)
    soft, young, flocked = (locks / f"{name}.lock" for name in ("soft", "young", "flocked"))
    soft.write_text("4194304\nelsewhere\n")
    young.write_text("4194304\nelsewhere\n")
    flocked.touch()
    for lock in (soft, flocked):
        os.utime(lock, (0, 0))
    stage(Weights(repo="acme/tiny", revision=commit))
    assert (soft.exists(), young.exists(), flocked.exists()) == (False, True, True)


def test_full_disk_in_the_middle_is_one_line_and_the_next_run_finishes(
    hub: StandInHub, mount: Callable[..., Path], tmp_path: Path
) -> None:
    disk, output = mount("1m"), tmp_path / "quiz.json"
    commit = hub.add("dataset", "acme/quiz", QUIZ)
    hub.faults.stall = threading.Event()
    process = start("quiz", commit, output, disk)
    wait_for(lambda: list(disk.glob("hub/*/blobs/*.incomplete")), "the download to begin")
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(bytes(2_000_000))
    stall, hub.faults.stall = hub.faults.stall, None
    stall.set()
    status, line = end(process)
    assert status == 1
    assert "dataset quiz: " in line and "make room, or set staging.hf_home" in line
    assert not output.exists()
    assert not list(disk.glob("hub/*/snapshots/*/data/*"))
    filler.unlink()
    assert end(start("quiz", commit, output, disk))[0] == 0
    assert verify(output, full=True) == []


def test_file_that_may_not_grow_is_one_line(hub: StandInHub, hf_home: Path, tmp_path: Path) -> None:
    commit = hub.add("dataset", "acme/quiz", QUIZ)
    output = tmp_path / "quiz.json"
    status, line = end(start("quiz", commit, output, hf_home, largest=100_000))
    assert status == 1
    remedy = "make room, or set staging.hf_home to another place"
    assert line == f"said: dataset quiz: the disk is full or over quota: {remedy}"
    assert not output.exists()
    assert end(start("quiz", commit, output, hf_home))[0] == 0
    assert verify(output, full=True) == []


def make_read_only(folder: Path, how: str) -> list[str]:
    """Makes a disk read-only, or its folders. Gives what has to stand before a command: root heeds no
    permissions unless it is told to."""
    if how == "EROFS":
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        return []
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o555)
    return ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]


@pytest.mark.parametrize("how", ["EROFS", "EACCES"])
def test_read_only_hf_home_is_one_line(
    hub: StandInHub, mount: Callable[..., Path], tmp_path: Path, how: str
) -> None:
    commit = hub.add("dataset", "acme/quiz", QUIZ)
    disk, output = mount("1m"), tmp_path / "quiz.json"
    prefix = make_read_only(disk, how)
    status, line = end(start("quiz", commit, output, disk, prefix=prefix))
    assert status == 1
    assert line.startswith(f"said: dataset quiz: no permission to write {disk}/slurmeval")
    assert line.endswith("set staging.hf_home to another place")


@pytest.mark.parametrize("how", ["EROFS", "EACCES"])
def test_what_is_staged_can_be_used_from_a_read_only_hf_home(
    hub: StandInHub, mount: Callable[..., Path], tmp_path: Path, how: str
) -> None:
    commit = hub.add("dataset", "acme/quiz", QUIZ)
    disk, output = mount("1m"), tmp_path / "quiz.json"
    assert end(start("quiz", commit, tmp_path / "first.json", disk))[0] == 0
    prefix = make_read_only(disk, how)
    assert end(start("quiz", commit, output, disk, prefix=prefix))[0] == 0
    assert verify(output, full=True) == []


def test_refused_download_is_one_line(hub: StandInHub, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    hub.faults.busy, hub.faults.busy_status = 99, 403
    with pytest.raises(UserError, match=r"the hub refuses acme/tiny \(403\): is HF_TOKEN right\?") as caught:
        stage(Weights(repo="acme/tiny", revision=commit))
    assert "hf_expired" not in str(caught.value)


def test_snapshot_whose_blobs_lie_in_a_store_above_is_taken_as_it_is(
    hub: StandInHub, stage: Stage, hf_home: Path, tmp_path: Path
) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    first = stage(Weights(repo="acme/tiny", revision=commit))
    share_blobs(hf_home)
    hub.seen.clear()
    shutil.rmtree(hf_home / "slurmeval")
    second = stage(Weights(repo="acme/tiny", revision=commit))
    assert second.files == first.files
    assert hub.downloads() == 0
    assert verify(tmp_path / "x.json", full=True) == []
