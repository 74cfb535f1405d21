"""Copies of weights and images on the disk of a node, and the jobs that share them."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurmeval.files import write_json
from slurmeval.servers.local_copies import LocalCopies, file_system
from slurmeval.state.records import encode
from slurmeval.state.server_spec import ServerSpec
from tests.lacking import lacking
from tests.waiting import wait_for

SIZE = 300_000
FILES = ("config.json", "model.safetensors", "1_Pooling/config.json", "empty")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "a scratch"
    folder.mkdir()
    if file_system(folder) in ("tmpfs", "ramfs"):
        lacking(f"{folder} is in memory, where nothing is copied to")
    return folder


@pytest.fixture
def spec(tmp_path: Path, scratch: Path) -> ServerSpec:
    """A model as the hub's client lays it out: links to blobs, and a blob of another revision beside them."""
    repository = tmp_path / "hub" / "models--org--name"
    blobs, folder = repository / "blobs", repository / "snapshots" / "0123abcd"
    (folder / "1_Pooling").mkdir(parents=True)
    blobs.mkdir()
    for number, name in enumerate(FILES):
        (blobs / str(number)).write_bytes(os.urandom(SIZE) if name != "empty" else b"")
        (folder / name).symlink_to(Path(*[".."] * (name.count("/") + 2)) / "blobs" / str(number))
    (blobs / "stale").write_bytes(b"of another revision")
    files = [{"path": name, "size": (folder / name).stat().st_size, "sha256": ""} for name in FILES]
    write_json(tmp_path / "m~1.json", {"folder": str(folder), "files": files})
    names = ("servers", "leases", "controller", "slots", "python")
    return ServerSpec(
        model="m",
        served_name="m",
        weights=str(folder),
        manifest=str(tmp_path / "m~1.json"),
        **{name: str(tmp_path / name) for name in names},
        scratch=str(scratch),
        to_copy=["weights"],
    )


def mine(scratch: Path) -> Path:
    return scratch / f"slurmeval-{os.getuid()}"


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder but the record; links are none."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != "copy.json"}


def original(spec: ServerSpec) -> dict[str, bytes]:
    return {name: (Path(spec.weights) / name).read_bytes() for name in FILES}


def pause(_seconds: float) -> None:
    return None


@pytest.fixture
def refused(caplog: pytest.LogCaptureFixture) -> Callable[[ServerSpec], str]:
    """The one line that says why there is no copy: the shared folder is used."""
    caplog.set_level(logging.INFO)

    def reason(spec: ServerSpec) -> str:
        assert LocalCopies(pause).of(spec) == spec
        start = f"{Path(spec.weights).name} is not copied to {spec.scratch}: "
        assert caplog.messages[-1].startswith(start)
        return caplog.messages[-1].removeprefix(start)

    return reason


class Other:
    """Another job on this node: it copies, says so, and holds the copy until it is told to go or killed."""

    def __init__(self, spec: ServerSpec, path: str | None = None) -> None:
        code = """
import json, logging, sys
from slurmeval.servers.local_copies import LocalCopies
from slurmeval.state.records import decode
from slurmeval.state.server_spec import ServerSpec
import time
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
copies = LocalCopies(time.sleep)
print("has", copies.of(decode(json.loads(sys.argv[1]), ServerSpec)).weights, flush=True)
input()
copies.release()
print("left", flush=True)
"""
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(encode(spec))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PATH": path or os.environ["PATH"]},
        )
        self.said: list[str] = []

    def until(self, beginning: str) -> str:
        """What it says, from the line that begins so on."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            if beginning in line:
                return self.said[-1]
        raise AssertionError(f"it ended without {beginning!r}: {self.said}")

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.until("left")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def other(spec: ServerSpec) -> Iterator[Callable[..., Other]]:
    made: list[Other] = []

    def start(path: str | None = None) -> Other:
        made.append(Other(spec, path))
        return made[-1]

    yield start
    for job in made:
        job.kill()


@pytest.fixture
def slow_path(tmp_path: Path) -> str:
    """A PATH whose `cp` begins a copy and hangs."""
    program = tmp_path / "slow" / "cp"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\nfor last in "$@"; do :; done\necho half > "$last/model.safetensors"\nexec sleep 60\n'
    )
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def test_files_of_the_manifest_are_copied_without_links_and_other_revisions(
    spec: ServerSpec, scratch: Path
) -> None:
    (Path(spec.weights) / "notes.txt").write_text("not in the manifest")
    copies = LocalCopies(pause)
    used = copies.of(spec)
    assert Path(used.weights) == mine(scratch) / "m~1"
    assert contents(Path(used.weights)) == original(spec)
    assert (mine(scratch).stat().st_mode & 0o777) == 0o700
    copies.release()
    copies.release()
    assert list(mine(scratch).iterdir()) == []


def test_an_image_is_copied_under_its_name(spec: ServerSpec, scratch: Path, tmp_path: Path) -> None:
    image = tmp_path / "vllm-123.sif"
    image.write_bytes(b"sif")
    copies = LocalCopies(pause)
    used = copies.of(replace(spec, image=str(image), to_copy=["weights", "images"]))
    assert used.image == str(mine(scratch) / "vllm-123" / "vllm-123.sif")
    assert Path(used.image).read_bytes() == b"sif"
    assert used.weights != spec.weights
    copies.release()
    assert list(mine(scratch).iterdir()) == []
    assert LocalCopies(pause).of(replace(spec, image="/no.sif", to_copy=["images"])).image == "/no.sif"


def test_second_job_uses_what_the_first_has_copied_and_the_last_removes_it(
    spec: ServerSpec, scratch: Path, other: Any
) -> None:
    copies = LocalCopies(pause)
    used = copies.of(spec)
    written = (Path(used.weights) / "config.json").stat().st_mtime_ns
    second = other()
    assert second.until("has") == f"has {used.weights}"
    copies.release()
    assert (Path(used.weights) / "config.json").stat().st_mtime_ns == written
    second.go()
    assert list(mine(scratch).iterdir()) == []


def test_who_comes_while_another_copies_waits_and_says_so(
    spec: ServerSpec, scratch: Path, other: Any, slow_path: str
) -> None:
    first = other(slow_path)
    wait_for((mine(scratch) / "m~1" / "model.safetensors").exists, "half a copy")
    second = other()
    second.until("another job copies it")
    first.kill()
    second.until("has")
    assert contents(mine(scratch) / "m~1") == original(spec)
    second.go()


def test_two_at_once_copy_once(spec: ServerSpec, scratch: Path, other: Any) -> None:
    jobs = [other(), other()]
    assert len({job.until("has") for job in jobs}) == 1
    assert sum("are copied to" in line for job in jobs for line in job.said) == 1
    for job in jobs:
        job.go()
    assert list(mine(scratch).iterdir()) == []


def test_whole_copy_of_a_killed_job_is_used_again(spec: ServerSpec, other: Any) -> None:
    first = other()
    first.until("has")
    first.kill()
    second = other()
    second.until("has")
    assert not any("are copied to" in line for line in second.said)


def test_next_job_removes_what_killed_ones_have_left(
    spec: ServerSpec, scratch: Path, other: Any, tmp_path: Path
) -> None:
    first = other()
    first.until("has")
    first.kill()
    manifest = tmp_path / "other~2.json"
    manifest.write_bytes(Path(spec.manifest).read_bytes())
    copies = LocalCopies(pause)
    copies.of(replace(spec, manifest=str(manifest)))
    assert sorted(entry.name for entry in mine(scratch).iterdir()) == ["other~2", "other~2.lock"]
    copies.release()


@pytest.mark.parametrize("damage", ["shorter", "gone", "another boot", "no record"])
def test_left_copy_that_is_not_whole_is_made_anew(
    spec: ServerSpec, scratch: Path, other: Any, damage: str
) -> None:
    first = other()
    first.until("has")
    first.kill()
    copy = mine(scratch) / "m~1"
    if damage == "shorter":
        os.truncate(copy / "model.safetensors", 5)
    elif damage == "gone":
        (copy / "config.json").unlink()
    elif damage == "another boot":
        record = json.loads((copy / "copy.json").read_text())
        (copy / "copy.json").write_text(json.dumps(record | {"boot": "before"}))
    else:
        (copy / "copy.json").unlink()
    copies = LocalCopies(pause)
    assert contents(Path(copies.of(spec).weights)) == original(spec)
    copies.release()


# Where nothing is copied


def test_memory_is_no_scratch(spec: ServerSpec, refused: Any) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or file_system(memory) != "tmpfs":
        lacking("needs /dev/shm in memory")
    with tempfile.TemporaryDirectory(dir=memory) as name:
        line = refused(replace(spec, scratch=name))
        assert line == f"{name} is in memory (tmpfs), which the job pays for"
        assert list(Path(name).iterdir()) == []


def test_too_little_room_is_told_with_what_is_to_be_kept(
    spec: ServerSpec, scratch: Path, refused: Any
) -> None:
    line = refused(replace(spec, keep_free_gb=1e6))
    assert "are needed, " in line and " are free, of which 1000000" in line
    assert line.endswith("B are kept (scratch.keep_free_gb)")
    assert list(mine(scratch).iterdir()) == []


def test_variables_of_the_job_stand_in_the_folder(
    spec: ServerSpec, scratch: Path, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(scratch))
    for text in ("$TMPDIR", "${TMPDIR}/"):
        copies = LocalCopies(pause)
        assert Path(copies.of(replace(spec, scratch=text)).weights).is_relative_to(mine(scratch))
        copies.release()
    assert refused(replace(spec, scratch="$NONE/x")) == "a variable of $NONE/x is not set in this job"


def test_folders_that_will_not_do_are_named(spec: ServerSpec, scratch: Path, refused: Any) -> None:
    assert refused(replace(spec, scratch="scratch")) == "scratch is no absolute path"
    no = scratch / "no"
    assert refused(replace(spec, scratch=str(no))) == f"there is no folder {no} on this node"
    mine(scratch).mkdir()
    mine(scratch).chmod(0o777)
    assert refused(spec) == f"{mine(scratch)} is there, and is not yours alone"


def test_folder_of_another_user_is_told(spec: ServerSpec, scratch: Path, refused: Any) -> None:
    mine(scratch).write_text("a file in its place")
    assert "File exists" in refused(spec)


def test_files_that_are_missing_or_not_whole_are_told_and_nothing_stays(
    spec: ServerSpec, scratch: Path, refused: Any
) -> None:
    os.truncate(Path(spec.weights) / "config.json", 5)
    assert refused(spec) == f"its file config.json has 5 bytes, and should have {SIZE}"
    (Path(spec.weights) / "config.json").resolve().unlink()
    assert refused(spec) == "its file config.json is missing"
    assert list(mine(scratch).iterdir()) == []


def test_folder_that_cannot_be_written_is_told(spec: ServerSpec, scratch: Path, refused: Any) -> None:
    """Root may write anywhere but to what is mounted read-only."""
    mount = ["mount", "--bind", "-o", "ro", str(scratch), str(scratch)]
    if os.geteuid() != 0:
        scratch.chmod(0o555)
    elif (done := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode != 0:
        lacking(f"cannot mount read-only: {done.stderr.strip()}")
    try:
        assert refused(spec).startswith(("Read-only file system", "Permission denied"))
        assert list(scratch.iterdir()) == []
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", scratch], check=True)


def test_file_that_changes_meanwhile_is_no_copy(
    spec: ServerSpec, scratch: Path, refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "changing" / "cp"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\ntruncate --size=10 model.safetensors\nexec /bin/cp "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert refused(spec) == "a file of it is being changed"
    assert list(mine(scratch).iterdir()) == []


def test_disk_that_fills_up_leaves_nothing_half_made(spec: ServerSpec, scratch: Path, refused: Any) -> None:
    """A real file system with room for the bytes, but not for so many files."""
    disk = scratch.with_name("disk")
    with disk.open("wb") as stream:
        stream.truncate(8 << 20)
    made = subprocess.run(["/sbin/mkfs.ext4", "-q", "-N", "16", disk], capture_output=True, check=False)
    if made.returncode != 0 or subprocess.run(["mount", "-o", "loop", disk, scratch], check=False).returncode:
        lacking("needs mkfs.ext4, root and a loop device")
    try:
        files = json.loads(Path(spec.manifest).read_text())["files"]
        for number in range(60):
            (Path(spec.weights) / f"{number}.txt").write_text("x")
            files.append({"path": f"{number}.txt", "size": 1, "sha256": ""})
        write_json(Path(spec.manifest), {"folder": spec.weights, "files": files})
        assert refused(spec).startswith("it is full")
        assert list(mine(scratch).iterdir()) == []
    finally:
        subprocess.run(["umount", scratch], check=True)


def test_job_that_is_told_to_stop_while_it_copies_leaves_nothing(
    spec: ServerSpec, scratch: Path, slow_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", slow_path)

    def stop(_seconds: float) -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        LocalCopies(stop).of(spec)
    assert list(mine(scratch).iterdir()) == []


def test_job_that_waits_for_anothers_copy_can_be_told_to_stop(
    spec: ServerSpec, scratch: Path, other: Any, slow_path: str
) -> None:
    other(slow_path)
    half = mine(scratch) / "m~1" / "model.safetensors"
    wait_for(half.exists, "half a copy")

    def stop(_seconds: float) -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        LocalCopies(stop).of(spec)
    assert half.exists(), "the other's half-made copy was taken away"
