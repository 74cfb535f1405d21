"""Copies on a node's own disk: whole, made once, shared, and removed by the last who leaves."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slurmeval.files import write_json
from slurmeval.processes import identity
from slurmeval.servers import copying
from slurmeval.servers.scratch import Copy, local_copy, ram
from tests.lacking import lacking
from tests.waiting import wait_for

PROJECT = Path(__file__).parents[3]
SIZE = 300_000


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A model as the hub's client lays it out: links to blobs, and a blob of another revision beside them."""
    repository = tmp_path / "hub" / "models--org--name"
    blobs, folder = repository / "blobs", repository / "snapshots" / "0123abcd"
    (folder / "1_Pooling").mkdir(parents=True)
    blobs.mkdir()
    for number, name in enumerate(["config.json", "model.safetensors", "1_Pooling/config.json", "empty"]):
        (blobs / str(number)).write_bytes(os.urandom(SIZE) if name != "empty" else b"")
        (folder / name).symlink_to(Path(*[".."] * (name.count("/") + 2)) / "blobs" / str(number))
    (blobs / "stale").write_bytes(b"of another revision")
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "a scratch"
    folder.mkdir()
    if ram(folder) is not None:
        lacking(f"{folder} is in memory, where nothing is copied to")
    return folder


def mine(scratch: Path) -> Path:
    return scratch / f"slurmeval-{os.getuid()}"


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder; links are none."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def original(snapshot: Path) -> dict[str, bytes]:
    names = ("config.json", "model.safetensors", "1_Pooling/config.json", "empty")
    return {name: (snapshot / name).read_bytes() for name in names}


def copied(snapshot: Path, scratch: Path | str, key: str = "m~1", **more: Any) -> Copy:
    said: list[str] = []
    copy = local_copy(snapshot, str(scratch), key, 0, said.append, **more)
    assert copy is not None, said
    return copy


def refused(source: Path, scratch: Path | str, keep_free: int = 0, **more: Any) -> str:
    """The one line that says why there is no copy."""
    said: list[str] = []
    assert local_copy(source, str(scratch), "m~1", keep_free, said.append, **more) is None
    start = f"{source.name} is not copied to {scratch}: "
    assert said[-1].startswith(start), said
    return said[-1].removeprefix(start)


class Other:
    """Another job on this node, as a process of its own: it copies, says so, and holds the copy until it is
    told to go or killed. `stops_in` is how many bytes it copies at most; then it hangs."""

    def __init__(self, snapshot: Path, scratch: Path, key: str = "m~1", stops_in: int | None = None) -> None:
        code = """
import json, sys, time
from pathlib import Path
from slurmeval.servers import copying, scratch
source, folder, key, stops_in = json.loads(sys.argv[1])
if stops_in is not None:
    copying.CHUNK, real = stops_in // 2, copying.chunks
    def hanging(*files):
        for number, chunk in enumerate(real(*files)):
            yield chunk
            if number == 1:
                print("hangs", flush=True)
                time.sleep(600)
    copying.chunks = hanging
say = lambda line: print(line, flush=True)
copy = scratch.local_copy(Path(source), folder, key, 0, say)
print(f"has {copy and copy.path}", flush=True)
input()
copy.release()
print("left", flush=True)
"""
        arguments = json.dumps([str(snapshot), str(scratch), key, stops_in])
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []

    def until(self, beginning: str) -> str:
        """What it says, from the line that begins so on."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            if line.startswith(beginning):
                return self.said[-1]
        raise AssertionError(f"it ended without {beginning!r}: {self.said}")

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.until("left")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def other(snapshot: Path, scratch: Path) -> Iterator[Callable[..., Other]]:
    made: list[Other] = []

    def start(**more: Any) -> Other:
        made.append(Other(snapshot, scratch, **more))
        return made[-1]

    yield start
    for job in made:
        job.kill()
        assert job.process.stdin and job.process.stdout
        job.process.stdin.close()
        job.process.stdout.close()


def test_snapshot_is_copied_without_links_and_without_other_revisions(snapshot: Path, scratch: Path) -> None:
    with copied(snapshot, scratch) as copy:
        assert copy.path.name == snapshot.name
        assert contents(copy.path) == original(snapshot)
        assert b"of another revision" not in contents(scratch).values()
        assert (mine(scratch).stat().st_mode & 0o777) == 0o700


def test_copy_goes_with_the_last_who_leaves(snapshot: Path, scratch: Path) -> None:
    first, second = copied(snapshot, scratch), copied(snapshot, scratch)
    assert first.path == second.path
    first.release()
    first.release()
    assert contents(second.path) == original(snapshot)
    second.release()
    assert list(mine(scratch).iterdir()) == []


def test_one_file_is_copied_under_its_name(tmp_path: Path, scratch: Path) -> None:
    image = tmp_path / "nemo-bfcl.sif"
    image.write_bytes(os.urandom(SIZE))
    link = tmp_path / "link.sif"
    link.symlink_to(image)
    with copied(link, scratch) as copy:
        assert copy.path.name == "link.sif"
        assert copy.path.read_bytes() == image.read_bytes()
        assert not copy.path.is_symlink()


def test_second_job_uses_what_the_first_has_copied(snapshot: Path, scratch: Path, other: Any) -> None:
    job = other()
    job.until("has")
    with copied(snapshot, scratch) as copy:
        before = (copy.path / "model.safetensors").stat()
        job.go()
        assert (copy.path / "model.safetensors").stat().st_ino == before.st_ino
    assert list(mine(scratch).iterdir()) == []


def test_two_at_once_copy_once(snapshot: Path, scratch: Path, other: Any) -> None:
    jobs = [other() for _ in range(4)]
    places = {job.until("has") for job in jobs}
    (place,) = places
    assert contents(Path(place.removeprefix("has "))) == original(snapshot)
    lines = [line for job in jobs for line in job.said]
    assert len([line for line in lines if ": copied in " in line]) == 1
    for job in jobs:
        job.go()
    assert list(mine(scratch).iterdir()) == []


def test_who_comes_while_another_copies_waits_and_says_so(snapshot: Path, scratch: Path, other: Any) -> None:
    first = other(stops_in=SIZE // 4)
    first.until("hangs")
    second = other()
    line = second.until("0123abcd: process ")
    assert f"process {first.process.pid} on " in line
    assert line.endswith(f"copies it to {mine(scratch)}; waiting")
    first.kill()
    place = Path(second.until("has").removeprefix("has "))
    assert contents(place) == original(snapshot)


def test_what_a_killed_job_has_half_copied_is_never_used(snapshot: Path, scratch: Path, other: Any) -> None:
    job = other(stops_in=SIZE // 4)
    job.until("hangs")
    assert any(0 < len(content) < SIZE for content in contents(scratch).values()), "it was to be half-made"
    job.kill()
    with copied(snapshot, scratch) as copy:
        assert contents(copy.path) == original(snapshot)
        assert not (copy.path.parents[1] / "making").exists()
    assert list(mine(scratch).iterdir()) == []


def test_whole_copy_of_a_killed_job_is_used_again(snapshot: Path, scratch: Path, other: Any) -> None:
    job = other()
    place = Path(job.until("has").removeprefix("has "))
    number = (place / "model.safetensors").stat().st_ino
    job.kill()
    with copied(snapshot, scratch) as copy:
        assert (copy.path / "model.safetensors").stat().st_ino == number
    assert list(mine(scratch).iterdir()) == []


@pytest.mark.parametrize("stops_in", [None, SIZE // 4], ids=["whole", "half-made"])
def test_next_job_removes_what_killed_ones_have_left(
    snapshot: Path, scratch: Path, other: Any, stops_in: int | None
) -> None:
    dead, alive = other(key="old~1", stops_in=stops_in), other(key="used~1")
    dead.until("hangs" if stops_in else "has")
    alive.until("has")
    dead.kill()
    with copied(snapshot, scratch, "new~1"):
        assert {entry.name for entry in mine(scratch).iterdir()} == {"new~1", "used~1"}


@pytest.mark.parametrize("damage", ["shorter", "gone", "another boot", "no record"])
def test_left_copy_that_is_not_whole_is_made_anew(
    snapshot: Path, scratch: Path, other: Any, damage: str
) -> None:
    job = other()
    place = Path(job.until("has").removeprefix("has "))
    job.kill()
    record = place.parent / "record.json"
    match damage:
        case "shorter":
            os.truncate(place / "model.safetensors", SIZE // 2)
        case "gone":
            (place / "config.json").unlink()
        case "another boot":
            content = json.loads(record.read_text())
            assert content["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            write_json(record, {**content, "boot": "before"})
        case "no record":
            record.write_text('{"name"')
    with copied(snapshot, scratch) as copy:
        assert contents(copy.path) == original(snapshot)


def test_others_files_under_the_same_key_are_not_taken_away(snapshot: Path, scratch: Path) -> None:
    with copied(snapshot, scratch) as copy:
        before = contents(copy.path)
        os.truncate(snapshot / "config.json", 7)
        line = refused(snapshot, scratch)
        assert line == "jobs on this node use a copy of other files under its name"
        assert contents(copy.path) == before


def test_claim_from_another_host_counts_while_it_beats(snapshot: Path, scratch: Path) -> None:
    """Where `scratch` is in truth seen by several nodes."""
    copy = copied(snapshot, scratch)
    elsewhere = copy.path.parents[1] / "users" / "elsewhere.json"
    write_json(elsewhere, {**identity(), "host": "elsewhere"})
    copy.release()
    assert contents(copy.path) == original(snapshot)
    os.utime(elsewhere, (0, 0))
    copied(snapshot, scratch).release()
    assert list(mine(scratch).iterdir()) == []


# Where nothing is copied


def test_memory_is_no_scratch(snapshot: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or ram(memory) != "tmpfs":
        lacking("needs /dev/shm in memory")
    with tempfile.TemporaryDirectory(dir=memory) as name:
        assert refused(snapshot, name) == f"{name} is in memory (tmpfs), which the job pays for"
        assert list(Path(name).iterdir()) == []


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs"])
def test_mounted_memory_is_no_scratch(snapshot: Path, scratch: Path, kind: str) -> None:
    mounted = subprocess.run(
        ["mount", "-t", kind, kind, scratch], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        lacking(f"cannot mount {kind}: {mounted.stderr.strip()}")
    try:
        assert refused(snapshot, scratch) == f"{scratch} is in memory ({kind}), which the job pays for"
        assert list(scratch.iterdir()) == []
    finally:
        subprocess.run(["umount", scratch], check=True)


def test_too_little_room_is_told_with_what_is_to_be_kept(snapshot: Path, scratch: Path) -> None:
    line = refused(snapshot, scratch, keep_free=10**15)
    assert line.startswith("900 kB are needed, ")
    assert " are free, of which 1000000" in line
    assert line.endswith("B are kept (scratch.keep_free_gb)")
    assert list(mine(scratch).iterdir()) == []


def test_variables_of_the_job_stand_in_the_folder(snapshot: Path, scratch: Path) -> None:
    environment = {"TMPDIR": str(scratch), "EMPTY": ""}
    for text in ("$TMPDIR", "${TMPDIR}/"):
        with copied(snapshot, text, environment=environment) as copy:
            assert copy.path.is_relative_to(mine(scratch))
    assert refused(snapshot, "$NONE/x", environment=environment) == "$NONE is not set in this job"
    assert refused(snapshot, "$EMPTY", environment=environment) == "$EMPTY is not set in this job"
    assert refused(snapshot, "/a$", environment=environment) == "a $ stands before no name in it"


def test_folders_that_will_not_do_are_named(snapshot: Path, scratch: Path) -> None:
    assert refused(snapshot, "scratch") == "scratch is no absolute path"
    assert refused(snapshot, scratch / "no") == f"there is no folder {scratch / 'no'} on this node"
    mine(scratch).mkdir(mode=0o777)
    mine(scratch).chmod(0o777)
    assert refused(snapshot, scratch) == f"{mine(scratch)} is there, and is not yours alone"
    assert local_copy(snapshot, None, "m~1", 0, pytest.fail) is None


def test_folder_that_cannot_be_written_is_told(snapshot: Path, scratch: Path) -> None:
    """Root may write anywhere, so this is done as another user, if need be."""
    scratch.chmod(0o555)
    code = (
        "import os, sys; from pathlib import Path; from slurmeval.servers.scratch import local_copy\n"
        "os.geteuid() or os.setuid(65534)\n"
        "local_copy(Path(sys.argv[1]), sys.argv[2], 'm~1', 0, print)"
    )
    for folder in (*snapshot.parents, *scratch.parents):
        if folder.is_relative_to(snapshot.parents[6]) and folder.owner() != "nobody":
            folder.chmod(folder.stat().st_mode | 0o055)
    done = subprocess.run(
        [sys.executable, "-c", code, str(snapshot), str(scratch)], capture_output=True, text=True, check=True
    )
    assert "Permission denied" in done.stdout
    assert list(scratch.iterdir()) == []


def test_file_that_is_missing_is_told_and_nothing_stays(snapshot: Path, scratch: Path) -> None:
    (snapshot / "model.safetensors").resolve().unlink()
    assert refused(snapshot, scratch) == "its file model.safetensors is missing"
    assert (
        refused(snapshot, scratch, files={"model.safetensors": SIZE})
        == "its file model.safetensors is missing"
    )
    assert list(mine(scratch).iterdir()) == []
    assert refused(snapshot / "no", scratch) == f"{snapshot / 'no'} is not there"


def test_only_the_files_that_are_wanted_are_copied_if_they_are_whole(snapshot: Path, scratch: Path) -> None:
    wanted = {"config.json": SIZE, "1_Pooling/config.json": SIZE}
    with copied(snapshot, scratch, files=wanted) as copy:
        assert contents(copy.path) == {name: (snapshot / name).read_bytes() for name in wanted}
    os.truncate(snapshot / "config.json", 5)
    line = refused(snapshot, scratch, files=wanted)
    assert line == f"its file config.json has 5 bytes, and should have {SIZE}"


def test_folder_that_leads_back_to_itself_is_refused(snapshot: Path, scratch: Path) -> None:
    (snapshot / "loop").symlink_to(snapshot)
    assert refused(snapshot, scratch) == f"{snapshot / 'loop'} leads to a folder above it"


def test_disk_that_is_full_leaves_nothing_half_made(snapshot: Path, scratch: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, hard))
    try:
        line = refused(snapshot, scratch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert line.startswith("it is full")
    assert list(mine(scratch).iterdir()) == []


def test_disk_that_fills_up_leaves_nothing_half_made(snapshot: Path, scratch: Path) -> None:
    """A real file system with room for the bytes, but not for so many files."""
    disk = scratch.with_name("disk")
    with disk.open("wb") as stream:
        stream.truncate(8 << 20)
    made = subprocess.run(["/sbin/mkfs.ext4", "-q", "-N", "32", disk], capture_output=True, check=False)
    if made.returncode != 0 or subprocess.run(["mount", "-o", "loop", disk, scratch], check=False).returncode:
        lacking("needs mkfs.ext4, root and a loop device")
    try:
        for number in range(60):
            (snapshot / f"{number}.txt").write_text("x")
        line = refused(snapshot, scratch)
        assert line.startswith("it is full (")
        assert list(mine(scratch).iterdir()) == []
    finally:
        subprocess.run(["umount", scratch], check=True)


def test_job_that_is_told_to_stop_leaves_nothing(
    snapshot: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied_to_the_end: list[int] = []

    def very_slow(*files: int) -> Iterator[int]:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            yield os.write(files[1], b"x")
        copied_to_the_end.append(files[0])

    monkeypatch.setattr(copying, "chunks", very_slow)

    class Stop(BaseException):
        pass

    def stop(_seconds: float) -> None:
        raise Stop

    with pytest.raises(Stop):
        local_copy(snapshot, str(scratch), "m~1", 0, lambda _: None, pause=stop)
    assert list(mine(scratch).iterdir()) == []
    assert copied_to_the_end == []


def test_job_that_waits_for_anothers_copy_can_be_told_to_stop(
    snapshot: Path, scratch: Path, other: Any
) -> None:
    first = other(stops_in=SIZE // 4)
    first.until("hangs")

    def stop(_seconds: float) -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        local_copy(snapshot, str(scratch), "m~1", 0, lambda _: None, pause=stop)
    assert any(mine(scratch).glob("m~1/making/*")), "the other's half-made copy was taken away"


def test_signal_in_the_midst_of_copying_leaves_nothing(snapshot: Path, scratch: Path, other: Any) -> None:
    """As SystemExit out of a signal handler, which is how submitit ends a job."""
    job = other()
    job.until("has")
    job.process.send_signal(signal.SIGINT)
    job.process.wait()
    copied(snapshot, scratch).release()
    assert list(mine(scratch).iterdir()) == []


def test_long_copying_says_how_far_it_is(
    snapshot: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    real = copying.chunks

    def until_told(*files: int) -> Iterator[int]:
        for chunk in real(*files):
            yield chunk
            wait_for(lambda: len(said) > 1, "a line on how far it is")

    monkeypatch.setattr(copying, "REPORT_INTERVAL_S", 0.0)
    monkeypatch.setattr(copying, "chunks", until_told)
    copy = local_copy(snapshot, str(scratch), "m~1", 0, said.append)
    assert copy is not None
    copy.release()
    assert said[0] == f"0123abcd: 900 kB are copied to {mine(scratch) / 'm~1'}"
    assert f"0123abcd to {mine(scratch)}: " in said[1]
    assert "900 kB of 900 kB, " in said[1]
    assert said[-1].startswith("0123abcd: copied in ")


@pytest.mark.parametrize("ways", [0, 1, 2])
def test_every_way_of_copying_copies_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: int) -> None:
    """Of the kernel's ways the first `ways` refuse, as between some file systems."""

    def refuse(*_: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    for name in ("copy_file_range", "sendfile")[:ways]:
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(copying, "CHUNK", 1000)
    source, target = tmp_path / "source", tmp_path / "target"
    for size in (0, 1, 1000, 12_345):
        source.write_bytes(os.urandom(size))
        with source.open("rb") as read, target.open("wb") as write:
            assert sum(copying.chunks(read.fileno(), write.fileno())) == size
        assert target.read_bytes() == source.read_bytes()


def test_file_that_changes_meanwhile_is_no_copy(
    snapshot: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = copying.chunks

    def shrinking(read: int, write: int) -> Iterator[int]:
        with (snapshot / "model.safetensors").open("r+b") as stream:
            stream.truncate(10)
        return real(read, write)

    monkeypatch.setattr(copying, "chunks", shrinking)
    assert "had 300000 bytes, and now has 10: it is being changed" in refused(snapshot, scratch)
    assert list(mine(scratch).iterdir()) == []


def test_waiting_is_for_a_claim_that_somebody_holds(snapshot: Path, scratch: Path, other: Any) -> None:
    """What a killed job held is taken over at once."""
    job = other(stops_in=SIZE // 4)
    job.until("hangs")
    job.kill()
    wait_for(lambda: (mine(scratch) / "m~1.owner").exists(), "the dead one's claim")
    said: list[str] = []
    copy = local_copy(snapshot, str(scratch), "m~1", 0, said.append)
    assert copy is not None
    copy.release()
    assert not any(line.endswith("; waiting") for line in said)
