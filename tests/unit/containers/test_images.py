"""What counts as an image: a lock's entry, a SIF that was tried, and a record that fits both."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurmeval.containers.apptainer import Apptainer
from slurmeval.containers.image_lock import lock
from slurmeval.containers.images import Image, ensure, is_whole, prune, read_lock, read_wanted, verify
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.files import sha256_of_file
from tests.stand_ins import stand_in_apptainer
from tests.stand_ins.stand_in_registry import StandInRegistry

CONTAINERS = Path(__file__).parents[3] / "containers"
FILES = {"bin/nemo-evaluator": "#!/bin/sh\necho apple\n"}
BROKEN = {"bin/nemo-evaluator": "#!/bin/sh\necho 'no module named apple' >&2\nexit 3\n"}
Pull = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("amd64")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def image(registry: StandInRegistry) -> Image:
    digest = registry.push("acme/fruit", "1.0", FILES)
    return Image("fruit", f"{registry.host}/acme/fruit:1.0", digest, check=("nemo-evaluator", "ls"))


@pytest.fixture
def pull(programs: Path, folder: Path) -> Pull:
    def do(image: Image, given: Path | None = None, said: list[str] | None = None) -> Path:
        return ensure(image, folder, Apptainer.find(), (said or []).append, given)

    return do


def builds(programs: Path) -> int:
    return sum(call["arguments"][0] == "build" for call in stand_in_apptainer.calls(programs))


def read(record: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(record.read_text())
    return content


def test_the_record_says_what_the_image_is(registry: StandInRegistry, pull: Pull, folder: Path) -> None:
    """Its packages are those of the Python that runs the harness."""
    digest = registry.push(
        "acme/fruit", "1.0", {"bin/nemo-evaluator": f"#!{sys.executable}\nprint('apple')\n"}
    )
    image = Image("fruit", f"{registry.host}/acme/fruit:1.0", digest, check=("nemo-evaluator", "ls"))
    record = read(pull(image))
    sif = folder / f"fruit-{image.digest[7:19]}.sif"
    assert record["sif"] == str(sif)
    assert (record["id"], record["reference"], record["digest"]) == ("fruit", image.reference, image.digest)
    assert (record["size"], record["sha256"]) == (sif.stat().st_size, sha256_of_file(sif))
    assert (record["architecture"], record["apptainer"]) == ("amd64", "1.4.5")
    assert record["programs"]["nemo-evaluator"].endswith("/bin/nemo-evaluator")
    assert record["packages"]["pytest"] == pytest.__version__
    assert record["labels"] == {"org.opencontainers.image.version": "26.10"}


def test_a_second_run_asks_nobody(
    image: Image, pull: Pull, programs: Path, registry: StandInRegistry
) -> None:
    first = pull(image)
    calls, seen = len(stand_in_apptainer.calls(programs)), len(registry.seen)
    assert pull(image) == first
    assert (len(stand_in_apptainer.calls(programs)), len(registry.seen)) == (calls, seen)


def test_the_check_runs_contained_and_without_a_network(image: Image, pull: Pull, programs: Path) -> None:
    pull(image)
    runs = [call["arguments"] for call in stand_in_apptainer.calls(programs) if "exec" in call["arguments"]]
    assert runs[0][-2:] == ["nemo-evaluator", "ls"]
    assert all({"--containall", "--net", "none"} <= set(run) for run in runs)


def test_an_image_that_does_not_start_is_no_image_and_not_pulled_again(
    registry: StandInRegistry, pull: Pull, folder: Path, programs: Path
) -> None:
    digest = registry.push("acme/fruit", "1.0", BROKEN)
    image = Image("fruit", f"{registry.host}/acme/fruit:1.0", digest, check=("nemo-evaluator", "ls"))
    for _ in range(2):
        with pytest.raises(
            SlurmevalError,
            match=r"`nemo-evaluator ls` does not start in it: no module named apple .*; remove",
        ):
            pull(image)
    assert not is_whole(image, folder)
    assert builds(programs) == 1


def test_a_command_that_is_not_there_is_named(registry: StandInRegistry, pull: Pull) -> None:
    digest = registry.push("acme/fruit", "1.0", FILES)
    image = Image("fruit", f"{registry.host}/acme/fruit:1.0", digest, check=("vllm-of-old", "--version"))
    with pytest.raises(
        SlurmevalError, match=r"`vllm-of-old --version` does not start in it: FATAL: exec vllm-of"
    ):
        pull(image)


def test_an_image_of_another_machine_is_refused(
    image: Image, pull: Pull, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry calls it amd64, and the SIF does not."""
    monkeypatch.setenv("STAND_IN_SIF_MACHINE", "04")
    with pytest.raises(UserError, match="is made for arm64; this machine is amd64"):
        pull(image)


@pytest.mark.parametrize("keep", [0, 20, 150, -1])
def test_a_truncated_sif_is_made_anew(
    image: Image, pull: Pull, folder: Path, programs: Path, keep: int
) -> None:
    pull(image)
    sif = image.sif(folder)
    sif.write_bytes(sif.read_bytes()[:keep])
    assert not is_whole(image, folder)
    pull(image)
    assert builds(programs) == 2
    assert is_whole(image, folder)


def test_a_truncated_sif_without_a_record_is_made_anew(
    image: Image, pull: Pull, folder: Path, programs: Path
) -> None:
    pull(image).unlink()
    sif = image.sif(folder)
    sif.write_bytes(sif.read_bytes()[:-1])
    pull(image)
    assert builds(programs) == 2


def test_a_whole_sif_without_a_record_is_only_tried_again(
    image: Image, pull: Pull, folder: Path, programs: Path
) -> None:
    pull(image).unlink()
    pull(image)
    assert builds(programs) == 1
    assert is_whole(image, folder)


def test_a_changed_sif_is_made_anew_and_a_touched_one_is_not(
    image: Image, pull: Pull, folder: Path, programs: Path
) -> None:
    pull(image)
    sif = image.sif(folder)
    os.utime(sif, ns=(1, 1))
    pull(image)
    assert builds(programs) == 1
    data = sif.read_bytes()
    sif.write_bytes(data[:-3] + b"xyz")
    pull(image)
    assert builds(programs) == 2


@pytest.mark.parametrize("content", [None, "", "[]", '{"digest": 1}'])
def test_a_record_without_a_sif_or_of_another_kind_is_no_image(
    image: Image, pull: Pull, folder: Path, content: str | None
) -> None:
    record = pull(image)
    if content is None:
        image.sif(folder).unlink()
    else:
        record.write_text(content)
    assert not is_whole(image, folder)
    pull(image)
    assert is_whole(image, folder)


def test_a_given_sif_is_tried_and_not_copied(
    image: Image, pull: Pull, programs: Path, folder: Path, tmp_path: Path, registry: StandInRegistry
) -> None:
    sif = tmp_path / "of the site.sif"
    sif.write_bytes(stand_in_apptainer.sif_bytes(FILES))
    record = read(pull(Image("fruit", "", check=("nemo-evaluator", "ls")), sif))
    assert (record["sif"], record["pulled_at"]) == (str(sif), None)
    assert builds(programs) == 0
    assert list(folder.glob("*.sif")) == registry.seen == []
    sif.write_bytes(stand_in_apptainer.sif_bytes(BROKEN))
    with pytest.raises(SlurmevalError, match="does not start"):
        pull(Image("fruit", "", check=("nemo-evaluator", "ls")), sif)
    assert sif.exists()


@pytest.mark.parametrize(("data", "said"), [(b"text", "is no SIF"), (None, "no such file")])
def test_a_given_file_that_is_no_sif_is_refused(
    image: Image, pull: Pull, tmp_path: Path, data: bytes | None, said: str
) -> None:
    sif = tmp_path / "x.sif"
    if data is not None:
        sif.write_bytes(data)
    with pytest.raises(UserError, match=said):
        pull(image, sif)


def test_an_image_that_is_not_locked_says_how_to_lock_it(pull: Pull) -> None:
    with pytest.raises(UserError, match="`slurmeval images lock vllm-openai`"):
        pull(Image("vllm-openai", "docker.io/vllm/vllm-openai:v1"))


def test_verify_reads_only_what_was_touched(image: Image, pull: Pull, folder: Path) -> None:
    record, sif = pull(image), image.sif(folder)
    said: list[str] = []
    assert verify(record, False, said.append) == said == []
    data, status = sif.read_bytes(), sif.stat()
    sif.write_bytes(data[:-1] + b"?")
    os.utime(sif, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert verify(record, False, said.append) == []
    assert "other content" in verify(record, True, said.append)[0]
    os.utime(sif, ns=(1, 1))
    assert "other content" in verify(record, False, said.append)[0]
    sif.write_bytes(data)
    assert verify(record, False, said.append) == []
    said.clear()
    assert verify(record, False, said.append) == said == []  # remembered


def test_prune_removes_what_no_lock_asks_for(image: Image, pull: Pull, folder: Path, tmp_path: Path) -> None:
    pull(image)
    elsewhere = tmp_path / "site.sif"
    elsewhere.write_bytes(stand_in_apptainer.sif_bytes(FILES))
    pull(Image("given", "", check=("nemo-evaluator",)), elsewhere)
    remains = folder / ".pulling" / "old-0123456789ab"
    (remains / "cache").mkdir(parents=True)
    (folder / "my notes.txt").touch()
    assert {path.name for path in prune([image], folder, dry_run=True)} == {
        "given-unlocked.json",
        "given-unlocked.log",
        remains.name,
    }
    assert remains.exists()
    prune([image], folder)
    assert {path.name for path in folder.iterdir()} == {
        ".pulling", "my notes.txt", *(image.sif(folder).stem + end for end in (".sif", ".json", ".log"))
    }  # fmt: skip
    assert list((folder / ".pulling").iterdir()) == []
    assert elsewhere.exists()
    assert is_whole(image, folder)


def test_the_lock_in_the_project_fits_what_is_wanted() -> None:
    wanted, locked = read_wanted(CONTAINERS / "images.yaml"), read_lock(CONTAINERS / "images.lock.yaml")
    assert len(locked) == 23
    assert set(wanted) - set(locked) == {"vllm-openai"}
    for name, image in locked.items():
        assert (image.reference, image.check) == (wanted[name].reference, wanted[name].check)
    assert locked["nemo-bfcl"].digest.startswith("sha256:fc6b5f22698b")
    assert locked["nemo-helm"].architectures == ("amd64",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fruit: 3", "fruit: expected a mapping"),
        ("fruit: {reference: a/b, digest: x, architectures: [amd64]}", r"fruit\.digest: expected sha256:"),
        ("fruit: {reference: a/b, colour: red}", r"fruit\.colour: unknown; there are: reference, digest"),
        ("fruit: {reference: 26.03}", r"fruit\.reference: expected text"),
        ("fruit: {reference: a/b}", r"fruit\.digest: is missing"),
        ("a/b: {}", "a/b: an id has letters"),
        ("fruit: {reference: A B}", r"fruit\.digest: is missing"),
        ("fruit: {reference: a/b, architectures: [1]}", r"fruit\.architectures: expected a list of texts"),
        ("", "is empty"),
    ],
)
def test_a_bad_lock_is_refused_with_its_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "images.lock.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        read_lock(file)
    assert str(file) in str(caught.value)


@pytest.fixture
def files(tmp_path: Path, registry: StandInRegistry) -> tuple[Path, Path]:
    """images.yaml with one image, and the place of its lock."""
    registry.push("acme/fruit", "1.0", FILES, architectures=("amd64", "arm64"))
    wanted = tmp_path / "images.yaml"
    wanted.write_text(
        f"fruit: {{reference: '{registry.host}/acme/fruit:1.0', check: [nemo-evaluator, ls]}}\n"
    )
    return wanted, tmp_path / "images.lock.yaml"


def test_the_lock_says_digest_and_architectures(files: tuple[Path, Path], registry: StandInRegistry) -> None:
    changes, failures = lock(*files, [], lambda _: None)
    assert (len(changes), failures) == (1, [])
    locked = read_lock(files[1])["fruit"]
    assert locked.digest == registry.repositories["acme/fruit"].tags["1.0"]
    assert (locked.architectures, locked.check) == (("amd64", "arm64"), ("nemo-evaluator", "ls"))
    text = files[1].read_text()
    assert lock(*files, [], lambda _: None) == ([], [])
    assert files[1].read_text() == text


def test_a_digest_that_changed_under_a_tag_is_said_loudly(
    files: tuple[Path, Path], registry: StandInRegistry
) -> None:
    lock(*files, [], lambda _: None)
    files[1].write_text("# our own comment\n" + files[1].read_text())
    before, text = read_lock(files[1])["fruit"], files[1].read_text()
    after = registry.push("acme/fruit", "1.0", {"bin/other": ""})
    changes, _ = lock(*files, [], lambda _: None, write=False)
    assert files[1].read_text() == text
    assert "DIGEST CHANGED" in str(changes[0])
    assert after in str(changes[0])
    assert before.digest in str(changes[0])
    lock(*files, [], lambda _: None)
    assert read_lock(files[1])["fruit"].digest == after
    assert files[1].read_text().startswith("# our own comment\n")


def test_one_that_cannot_be_locked_leaves_its_entry_and_the_others_alone(
    files: tuple[Path, Path], registry: StandInRegistry
) -> None:
    lock(*files, [], lambda _: None)
    registry.push("acme/nut", "2", FILES)
    entries = (
        files[0].read_text().replace(":1.0", ":9.9") + f"nut: {{reference: '{registry.host}/acme/nut:2'}}\n"
    )
    files[0].write_text(entries)
    changes, failures = lock(*files, [], lambda _: None)
    assert [change.id for change in changes] == ["nut"]
    assert "has no tag 9.9" in str(failures[0])
    assert read_lock(files[1])["fruit"].reference.endswith(":1.0")
