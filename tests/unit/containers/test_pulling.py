"""Pulling an image: whatever breaks, nothing half-made counts, and the next try carries on."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from slurmeval import subprocesses
from slurmeval.containers.apptainer import Apptainer
from slurmeval.containers.images import Image, ensure, is_whole
from slurmeval.errors import SlurmevalError, UserError
from tests.stand_ins import stand_in_apptainer
from tests.stand_ins.stand_in_registry import StandInRegistry
from tests.waiting import wait_for

BASE = {"bin/pear": "#!/bin/sh\n", "share/base": "b" * 50_000}
HARNESS = {
    "bin/nemo-evaluator": "#!/bin/sh\necho apple\n",
    "share/harness": "h" * 300_000,
}
LOGIN = ("me", "a-secret-password")
Push = Callable[..., Image]

pytestmark = pytest.mark.usefixtures("amd64")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "shared images ü"


@pytest.fixture
def push(registry: StandInRegistry) -> Push:
    """Pushes an image of these layers; gives its entry of the lock."""

    def do(*layers: dict[str, str], **options: object) -> Image:
        digest = registry.push("acme/fruit", "1.0", *(layers or (BASE, HARNESS)), **options)  # type: ignore[arg-type]
        return Image("fruit", f"{registry.host}/acme/fruit:1.0", digest, check=("nemo-evaluator", "ls"))

    return do


def pull(image: Image, folder: Path, said: list[str] | None = None) -> Path:
    progress = said.append if said is not None else lambda _: None
    return ensure(image, folder, Apptainer.find(), progress)


CODE = (
    "import json, resource, signal, sys; from pathlib import Path\n"
    "from slurmeval.errors import SlurmevalError\n"
    "from slurmeval.containers.apptainer import Apptainer\n"
    "from slurmeval.containers.images import Image, ensure\n"
    "if sys.argv[3] != '0':\n"
    "    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    "    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))\n"
    "image = json.loads(sys.argv[1])\n"
    "image['check'] = tuple(image['check'])\n"
    "try: print(ensure(Image(**image), Path(sys.argv[2]), Apptainer.find()))\n"
    "except SlurmevalError as error: print(error)\n"
)


def start_pull(image: Image, folder: Path, largest: int = 0) -> subprocess.Popen[str]:
    """Pulls in a process of its own, which can write no file of more than `largest` bytes."""
    document = json.dumps({**vars(image), "architectures": []})
    argv = [sys.executable, "-c", CODE, document, str(folder), str(largest)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def processes_with(text: str) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if text in (process / "cmdline").read_text() and int(process.name) != os.getpid():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def test_an_image_is_pulled_by_digest_and_only_by_that(
    registry: StandInRegistry, programs: Path, push: Push, folder: Path
) -> None:
    image = push(BASE, HARNESS, architectures=("amd64", "arm64"))
    registry.push("acme/fruit", "1.0", {"bin/nemo-evaluator": "another image under the same tag"})
    pull(image, folder)
    build = next(call for call in stand_in_apptainer.calls(programs) if call["arguments"][0] == "build")
    assert build["arguments"][-1] == f"docker://{registry.host}/acme/fruit@{image.digest}"
    assert registry.count("/manifests/1.0") == 0
    assert is_whole(image, folder)


def test_cache_and_temporary_files_lie_beside_the_images_and_go(
    programs: Path, push: Push, folder: Path
) -> None:
    pull(push(), folder)
    build = next(call for call in stand_in_apptainer.calls(programs) if call["arguments"][0] == "build")
    for name in ("APPTAINER_CACHEDIR", "APPTAINER_TMPDIR", "SINGULARITY_CACHEDIR", "TMPDIR"):
        assert build["environment"][name].startswith(str(folder))
    assert build["environment"]["APPTAINER_DISABLE_CACHE"] == "false"
    assert {path.suffix for path in folder.iterdir()} == {".sif", ".json", ".log"}
    assert not (Path(os.environ["HOME"])).exists()


def test_progress_says_bytes_rate_and_time_left_and_then_building(
    registry: StandInRegistry, programs: Path, push: Push, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocesses, "REPORT_INTERVAL_S", 0.02)
    image, said = push(), list[str]()
    registry.faults.stall = threading.Event()
    puller = threading.Thread(target=pull, args=(image, folder, said))
    puller.start()
    wait_for(lambda: any("left" in line for line in said), "a line with the time left")
    registry.faults.stall.set()
    puller.join()
    coming = next(line for line in said if "left" in line)
    assert coming.startswith("image fruit: ")
    assert " of 350 kB, " in coming
    assert "/s, " in coming
    assert any("hashing" in line for line in said)


def test_too_little_room_is_said_before_anything_is_fetched(
    registry: StandInRegistry, programs: Path, push: Push, folder: Path
) -> None:
    image = push()
    manifest = json.loads(registry.repositories["acme/fruit"].manifests[image.digest][1])
    manifest["layers"][0]["size"] = 10**18
    data = json.dumps(manifest).encode()
    with pytest.raises(UserError, match=r"GB are needed in .*layers .*unpacked .*SIF .* are free: make room"):
        pull(_pushed_as(registry, data), folder)
    assert registry.count("/blobs/") == 1  # the configuration, for its architecture
    assert not [call for call in stand_in_apptainer.calls(programs) if call["arguments"][0] == "build"]


def _pushed_as(registry: StandInRegistry, data: bytes) -> Image:
    from tests.stand_ins.stand_in_registry import MANIFEST, digest_of

    registry.repositories["acme/fruit"].manifests[digest_of(data)] = (MANIFEST, data)
    return Image("fruit", f"{registry.host}/acme/fruit:1.0", digest_of(data))


def test_a_full_disk_is_said_in_one_line_and_the_next_run_carries_on(
    registry: StandInRegistry, programs: Path, push: Push, folder: Path
) -> None:
    """A limit on the size of files stands for the full disk: layers fit, the SIF does not."""
    image = push()
    out, _ = start_pull(image, folder, largest=320_000).communicate()
    assert out.startswith("image fruit: the disk is full or over quota in ")
    assert len(out.splitlines()) == 1
    assert list(folder.glob("*.sif")) == list(folder.glob("*.json")) == []
    before = registry.count("/blobs/")
    pull(image, folder)
    assert registry.count("/blobs/") == before + 1  # the configuration; layers were in the cache


def test_a_killed_pull_leaves_no_image_and_no_process_and_its_layers_are_used_again(
    registry: StandInRegistry, programs: Path, push: Push, folder: Path
) -> None:
    image = push()
    base, harness = (
        layer["digest"]
        for layer in json.loads(registry.repositories["acme/fruit"].manifests[image.digest][1])["layers"]
    )
    registry.faults.stall = gate = threading.Event()
    killed = start_pull(image, folder)
    wait_for(lambda: registry.count(harness), "the second, large layer")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    wait_for(lambda: not processes_with(f"{folder}/.pulling"), "the end of what the killed one started")
    gate.set()
    assert list(folder.glob("*.sif")) == list(folder.glob("*.json")) == []
    said: list[str] = []
    pull(image, folder, said)
    assert not any("waiting" in line for line in said)
    assert registry.count(base) == 1
    assert is_whole(image, folder)
    assert not (folder / ".pulling").exists()


def test_of_two_pulls_of_one_image_the_second_waits_and_finds_it(
    registry: StandInRegistry, programs: Path, push: Push, folder: Path
) -> None:
    registry.faults.stall = threading.Event()
    image = push()
    first = start_pull(image, folder)
    wait_for(lambda: stand_in_apptainer.calls(programs), "the first pull")
    second = start_pull(image, folder)
    assert second.stderr is not None
    told = second.stderr.readline()
    registry.faults.stall.set()
    outputs = [process.communicate()[0] for process in (first, second)]
    assert f"process {first.pid} on" in told
    assert "waiting" in told
    assert outputs == [f"{image.record(folder)}\n"] * 2
    assert sum(call["arguments"][0] == "build" for call in stand_in_apptainer.calls(programs)) == 1


def test_a_connection_that_breaks_is_tried_again_with_what_has_come(
    registry: StandInRegistry, programs: Path, push: Push, folder: Path
) -> None:
    image, said = push(), list[str]()
    registry.faults.cut = 1
    pull(image, folder, said)
    assert any("the connection broke; again in" in line for line in said)
    assert sum(call["arguments"][0] == "build" for call in stand_in_apptainer.calls(programs)) == 2


def test_a_login_reaches_apptainer_by_its_environment_alone(
    registry: StandInRegistry, programs: Path, push: Push, folder: Path
) -> None:
    image = push()
    registry.faults.login, registry.faults.kind = LOGIN, "basic"
    file = Path(os.environ["HOME"]) / ".docker" / "config.json"
    file.parent.mkdir(parents=True)
    entry = {"username": LOGIN[0], "password": LOGIN[1]}
    file.write_text(json.dumps({"auths": {registry.host: entry}}))
    said: list[str] = []
    pull(image, folder, said)
    calls = stand_in_apptainer.calls(programs)
    build = next(call for call in calls if call["arguments"][0] == "build")
    assert build["environment"]["APPTAINER_DOCKER_PASSWORD"] == LOGIN[1]
    assert LOGIN[1] not in " ".join(word for call in calls for word in call["arguments"])
    assert LOGIN[1] not in " ".join(said)
    assert all(LOGIN[1] not in path.read_text("latin-1") for path in folder.rglob("*") if path.is_file())


def test_a_refusal_in_mid_pull_says_how_to_log_in(
    registry: StandInRegistry, programs: Path, push: Push, folder: Path
) -> None:
    """The token service lets us ask, and Apptainer not: the stand-in takes no tokens."""
    image = push()
    registry.faults.token_for_all = True
    with pytest.raises(UserError, match="log in with `apptainer registry login"):
        pull(image, folder)


def test_an_image_for_other_machines_is_refused_before_it_is_fetched(
    registry: StandInRegistry, programs: Path, push: Push, folder: Path
) -> None:
    image = push(architectures=("arm64",))
    with pytest.raises(UserError, match=r"is not made for amd64, .* there is: arm64"):
        pull(image, folder)
    with pytest.raises(UserError, match=r"is not made for amd64, .* there is: arm64"):
        pull(Image("fruit", image.reference, image.digest, architectures=("arm64",)), folder)
    assert stand_in_apptainer.calls(programs) == []


def test_a_registry_that_went_down_says_so_and_the_next_run_pulls(
    registry: StandInRegistry, programs: Path, push: Push, folder: Path
) -> None:
    image = push()
    registry.faults.busy, registry.faults.busy_status = 6, 503
    with pytest.raises(SlurmevalError, match="answers 503 again and again"):
        pull(image, folder)
    pull(image, folder)
    assert is_whole(image, folder)


def test_an_apptainer_that_is_not_there_is_said(
    registry: StandInRegistry, push: Push, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = push()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="neither apptainer nor singularity is on PATH"):
        pull(image, folder)
    with pytest.raises(UserError, match=r"a-module cannot be run: .*not found"):
        ensure(image, folder, Apptainer("a-module", setup=("true",)), lambda _: None)
