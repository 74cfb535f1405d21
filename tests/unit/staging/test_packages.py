"""Files of packages and folders: once, whole, and with one line where they cannot be had."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.sources import Dataset, Weights
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.staging.datasets import stage_dataset
from slurmeval.staging.export import export
from slurmeval.staging.hub_lock import HubLock
from slurmeval.staging.importing import import_lists
from slurmeval.staging.manifest import verify
from slurmeval.staging.models import stage_model
from slurmeval.state.manifest import Manifest
from tests.lacking import lacking
from tests.stand_ins.wheels import build_wheel

Stage = Callable[..., Manifest]
QUIZ = Dataset(package="quiz==1.0", files=["quiz_data/deep/test.jsonl"])
TINY = Weights(package="tiny==1.0", file="tiny_data/tiny.gguf")
DEADLINE_S = 30

CONVERTER = """#!{python}
import pathlib, sys, time
script, folder, file, output = sys.argv[1:]
assert script.endswith("convert_gguf.py")
goal = pathlib.Path(output)
goal.mkdir()
goal.joinpath("config.json").write_text("{{}}")
with pathlib.Path({log!r}).open("a") as log: log.write("converted\\n")
while pathlib.Path({gate!r}).exists(): time.sleep(0.01)
goal.joinpath("model.safetensors").write_bytes(pathlib.Path(folder, file).read_bytes())
"""


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "wheels"
    data = {"quiz_data/deep/test.jsonl": b"{}\n" * 1000, "quiz_data/train.jsonl": b"{}\n"}
    build_wheel(folder, "quiz", "1.0", data=data)
    build_wheel(folder, "tiny", "1.0", data={"tiny_data/tiny.gguf": b"GGUF weights"})
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", folder.as_uri())
    return folder


@pytest.fixture
def converter(tmp_path: Path) -> Path:
    """Stands for the server's Python: says that it ran in `converted.log`, and waits while `gate` exists."""
    program = tmp_path / "converter"
    log, gate = str(tmp_path / "converted.log"), str(tmp_path / "gate")
    program.write_text(CONVERTER.format(python=sys.executable, log=log, gate=gate))
    program.chmod(0o755)
    return program


def start(what: str, goal: Path, hf_home: Path, python: Path | None = None) -> subprocess.Popen[str]:
    """Stages QUIZ or TINY in a process of its own."""
    code = (
        "import sys; from pathlib import Path\n"
        "from slurmeval.config.models import Dataset, Weights\n"
        "from slurmeval.staging.datasets import stage_dataset\n"
        "from slurmeval.staging.models import stage_model\n"
        "what, entry, goal, home, python = sys.argv[1:]\n"
        "if what == 'model':\n"
        "    entry = Weights.model_validate_json(entry)\n"
        "    stage_model('x', entry, Path(goal), Path(home), Path(home), Path(python))\n"
        "else: stage_dataset('x', Dataset.model_validate_json(entry), Path(goal), Path(home), Path(home))\n"
    )
    entry = (TINY if what == "model" else QUIZ).model_dump_json()
    argv = [sys.executable, "-c", code, what, entry, str(goal), str(hf_home), str(python)]
    return subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_dataset_of_a_package_keeps_its_paths(stage: Stage, tmp_path: Path, hf_home: Path) -> None:
    manifest = stage(QUIZ)
    folder = hf_home / "slurmeval/datasets/x" / manifest.revision
    assert manifest.folder == folder
    assert [path.name for path in folder.rglob("*")] == ["quiz_data", "deep", "test.jsonl"]
    assert (folder / "quiz_data/deep/test.jsonl").read_bytes() == b"{}\n" * 1000
    assert len(manifest.source["wheel_sha256"]) == 64
    assert verify(tmp_path / "x.json", full=True) == []


def test_wheel_is_downloaded_once_for_several_datasets(
    stage: Stage, wheels: Path, said: list[str], tmp_path: Path, hf_home: Path
) -> None:
    stage(QUIZ)
    shutil.rmtree(wheels)
    other = Dataset(package="quiz==1.0", files=["quiz_data/*.jsonl"])
    manifest = stage_dataset("other", other, tmp_path / "other.json", hf_home, tmp_path, said.append)
    assert [file.path for file in manifest.files][-1] == "quiz_data/train.jsonl"
    assert said.count("quiz==1.0: downloading") == 1


def test_damaged_wheel_is_removed_and_downloaded_again(stage: Stage, hf_home: Path) -> None:
    stage(QUIZ)
    wheel = next(hf_home.glob("slurmeval/packages/*/*.whl"))
    wheel.write_bytes(b"x" * wheel.stat().st_size)
    other = Dataset(package="quiz==1.0", files=["quiz_data/train.jsonl"])
    with pytest.raises(SlurmevalError, match=r"quiz==1\.0: the downloaded wheel was damaged; try again"):
        stage(other)
    assert stage(other).bytes == 3


def test_two_processes_download_a_wheel_once(tmp_path: Path, hf_home: Path) -> None:
    both = [start("dataset", tmp_path / f"{number}.json", hf_home) for number in (1, 2)]
    texts = [process.communicate(timeout=DEADLINE_S)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert "".join(texts).count("downloading") == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            {"package": "quiz==2.0", "files": ["a"]},
            r"quiz==2\.0: the package index has no such wheel; there are 1\.0",
        ),
        ({"package": "plum==2.0", "files": ["a"]}, r"plum==2\.0: the package index has no such wheel"),
        (
            {"package": "quiz==1.0", "files": ["quiz_data/test.json"]},
            r"no file quiz_data/test\.json; the nearest is ",
        ),
        ({"folder": "nowhere"}, r"dataset x: there is no folder .*/nowhere"),
    ],
)
def test_missing_source_is_one_line(stage: Stage, source: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        stage(Dataset.model_validate(source))
    assert "\n" not in str(caught.value)


def test_index_that_is_away_is_one_line(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(SlurmevalError, match=r"plum==2\.0: no connection to the package index"):
        stage(Dataset(package="plum==2.0", files=["a"]))


def test_model_of_a_package_is_converted_once(
    converter: Path, tmp_path: Path, hf_home: Path, said: list[str]
) -> None:
    goal = tmp_path / "x.json"
    first = stage_model("x", TINY, goal, hf_home, tmp_path, converter, said.append)
    again = stage_model("x", TINY, goal, hf_home, tmp_path, None, said.append)
    assert (tmp_path / "converted.log").read_text() == "converted\n"
    assert first.files == again.files
    assert [file.path for file in first.files] == ["config.json", "model.safetensors"]
    assert first.folder == hf_home / "slurmeval/models/x" / first.revision


def test_damaged_converted_model_is_converted_anew(converter: Path, tmp_path: Path, hf_home: Path) -> None:
    goal = tmp_path / "x.json"
    manifest = stage_model("x", TINY, goal, hf_home, tmp_path, converter)
    (manifest.folder / "model.safetensors").write_bytes(b"GGUF weightz")
    assert len(verify(goal, full=True)) == 1
    assert verify(goal) == []
    stage_model("x", TINY, goal, hf_home, tmp_path, converter)
    assert verify(goal, full=True) == []


def test_failed_conversion_gives_its_last_line(tmp_path: Path, hf_home: Path) -> None:
    with pytest.raises(
        SlurmevalError, match=r"model x: tiny\.gguf cannot be converted: ModuleNotFoundError: .*torch"
    ):
        stage_model("x", TINY, tmp_path / "x.json", hf_home, tmp_path, Path(sys.executable))
    assert not (tmp_path / "x.json").exists()


def test_killed_conversion_leaves_nothing_half_made(converter: Path, tmp_path: Path, hf_home: Path) -> None:
    goal, models = tmp_path / "x.json", hf_home / "slurmeval/models/x"
    (tmp_path / "gate").touch()
    staging = start("model", goal, hf_home, converter)
    until((tmp_path / "converted.log").exists)
    staging.send_signal(signal.SIGKILL)
    staging.communicate()
    assert not goal.exists()
    assert all("." in path.name for path in models.iterdir())  # nothing under the final name
    (tmp_path / "gate").unlink()
    stage_model("x", TINY, goal, hf_home, tmp_path, converter)
    assert verify(goal, full=True) == []
    assert not list(models.glob("*.making-*"))


def test_model_folder_is_described_where_it_lies(stage: Stage, tmp_path: Path, hf_home: Path) -> None:
    folder = tmp_path / "my model"
    folder.mkdir()
    with pytest.raises(UserError, match="holds no files"):
        stage(Weights(folder="my model"))
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match="has no weights"):
        stage(Weights(folder="my model"))
    (folder / "model.safetensors").write_bytes(b"x")
    first = stage(Weights(folder="my model"))
    assert first.folder == folder
    (folder / "model.safetensors").write_bytes(b"y")
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert stage(Weights(folder="my model")).revision != first.revision


def test_verify_lists_what_is_wrong(stage: Stage, tmp_path: Path) -> None:
    file = stage(QUIZ).folder / "quiz_data/deep/test.jsonl"
    manifest = tmp_path / "x.json"
    file.write_text("short")
    assert verify(manifest) == [f"{file}: 5 bytes instead of 3000"]
    file.unlink()
    assert verify(manifest) == [f"{file}: missing"]
    manifest.write_text(json.dumps({"kind": "dataset"}))
    with pytest.raises(UserError, match="damaged manifest"):
        verify(manifest)
    with pytest.raises(UserError, match="not staged"):
        verify(tmp_path / "none.json")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mounted = os.getuid() == 0 and (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=False
        ).returncode
        == 0
    )
    if not mounted:
        lacking("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_disk_that_fills_up_is_one_line(small_disk: Path, wheels: Path, tmp_path: Path) -> None:
    build_wheel(wheels, "big", "1.0", data={"big.bin": os.urandom(400_000)})
    entry = Dataset(package="big==1.0", files=["big.bin"])
    with pytest.raises(UserError, match="the disk is full or over quota") as caught:
        stage_dataset("x", entry, tmp_path / "x.json", small_disk, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(small_disk.rglob("*.making-*"))


def test_disk_without_room_is_said_before_the_download(small_disk: Path, tmp_path: Path, hub: Any) -> None:
    commit = hub.add("model", "acme/big", {"config.json": b"{}", "model.safetensors": os.urandom(400_000)})
    with pytest.raises(
        UserError, match=r"model x: 400 kB are needed in .*, \d+ kB are free: make room, or set"
    ):
        stage_model("x", Weights(repo="acme/big", revision=commit), tmp_path / "x.json", small_disk, tmp_path)
    assert hub.downloads() == 0


def test_what_came_in_packages_is_found_where_it_was_carried_to(
    tmp_path: Path, hf_home: Path, converter: Path, wheels: Path
) -> None:
    outputs = [tmp_path / "model.json", tmp_path / "dataset.json"]
    stage_model("x", TINY, outputs[0], hf_home, tmp_path, converter)
    stage_dataset("snapshots", QUIZ, outputs[1], hf_home, tmp_path)
    before = [json.loads(output.read_text()) for output in outputs]
    found = export(outputs, [], HubLock(), hf_home, lambda _: None)
    assert len(found.files) == 2 + 1 + 2 * 2  # the model's, the dataset's, and two wheels with their records
    other = tmp_path / "other"
    for line in (hf_home / "slurmeval" / "export" / "files.txt").read_text().splitlines():
        (other / line).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(hf_home / line, other / line)
    shutil.rmtree(wheels)
    shutil.rmtree(hf_home)
    import_lists(other, tmp_path / "images", tmp_path, lambda _: None)
    # without a Python that could convert it
    stage_model("x", TINY, outputs[0], other, tmp_path, None)
    stage_dataset("snapshots", QUIZ, outputs[1], other, tmp_path)
    after = [json.loads(output.read_text()) for output in outputs]
    assert [(m["revision"], m["files"]) for m in after] == [(m["revision"], m["files"]) for m in before]
    assert [verify(output, full=True) for output in outputs] == [[], []]
