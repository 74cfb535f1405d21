"""What was staged on a machine with internet is carried to one without, whole, and found there."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slurmeval.config.models import Dataset, Weights
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.files import sha256_of_file, write_json
from slurmeval.staging import fetched, hub_lock
from slurmeval.staging.datasets import stage_dataset
from slurmeval.staging.export import export
from slurmeval.staging.manifest import Ledger, hash_files, verify, write_manifest
from slurmeval.staging.models import stage_model
from slurmeval.staging.parcel import Parcel
from slurmeval.staging.repository import Repository
from slurmeval.staging.unpack import Goal, Unpacked, unpack
from tests.stand_ins.stand_in_hub import StandInHub
from tests.waiting import wait_for

from .conftest import MODEL, WANTED, share_blobs

QUIZ = {"data/test.parquet": os.urandom(70_000), "data/train.parquet": b"not wanted", "README.md": b"x"}
TINY, DATA = Weights(repo="acme/tiny"), Dataset(repo="acme/quiz", files=["data/te*"])


def quiet(_: str) -> None:
    """Progress that nobody reads."""


class Site:
    """A machine with a project."""

    def __init__(self, folder: Path) -> None:
        self.project, self.hf_home, self.images = folder / "project", folder / "hf", folder / "images"
        self.project.mkdir(parents=True)

    def stage(self) -> list[Path]:
        """A model and a dataset, both by branch; gives their manifests."""
        manifests = [self.project / "model.json", self.project / "dataset.json"]
        stage_model("tiny", TINY, manifests[0], self.hf_home, self.project, None, quiet)
        stage_dataset("quiz", DATA, manifests[1], self.hf_home, self.project, quiet)
        return manifests

    def unpack(self, parcel: Path, copy: bool = False) -> Unpacked:
        return unpack(parcel, Goal(self.hf_home, self.images, self.project), quiet, copy)


@pytest.fixture
def here(hub: StandInHub, tmp_path: Path) -> Site:
    """With internet: a model, of which an older commit is there too, and a dataset, all staged."""
    site = Site(tmp_path / "with internet")
    old = hub.add("model", "acme/tiny", {**MODEL, "model.safetensors": b"older weights"})
    stage_model("old", Weights(repo="acme/tiny", revision=old), tmp_path / "old.json", site.hf_home, tmp_path)
    hub.add("model", "acme/tiny", MODEL)
    hub.add("dataset", "acme/quiz", QUIZ)
    site.stage()
    return site


@pytest.fixture
def there(tmp_path: Path) -> Site:
    return Site(tmp_path / "without ü")


def packed(site: Site, folder: Path, manifests: list[Path] | None = None) -> Path:
    given = [site.project / "model.json", site.project / "dataset.json"] if manifests is None else manifests
    export(folder, given, [], hub_lock.read(site.project), site.hf_home, quiet)
    return folder


def carried(parcel: Path, to: Path) -> Path:
    """As rsync carries it: links as links, nothing shared with where it was."""
    shutil.copytree(parcel, to, symlinks=True)
    return to


def close(hub: StandInHub) -> None:
    """From now on nobody can reach it."""
    hub.seen.clear()
    hub.repos.clear()


@pytest.mark.parametrize("copy", [False, True])
def test_what_was_carried_is_staged_without_network(
    hub: StandInHub, here: Site, there: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy: bool
) -> None:
    parcel = carried(packed(here, tmp_path / "parcel"), tmp_path / "carried")
    close(hub)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = there.unpack(parcel, copy)
    shutil.rmtree(parcel)
    model, dataset = there.stage()
    for manifest, original in ((model, "model.json"), (dataset, "dataset.json")):
        before, after = json.loads((here.project / original).read_text()), json.loads(manifest.read_text())
        assert (after["files"], after["revision"]) == (before["files"], before["revision"])
        assert Path(after["folder"]).is_relative_to(there.hf_home)
        assert verify(manifest, full=True) == []
    assert done.there == 0
    assert hub.seen == []


def test_parcel_holds_one_snapshot_and_what_the_config_needs_of_it(here: Site, tmp_path: Path) -> None:
    parcel = Parcel.read(packed(here, tmp_path / "parcel"))
    snapshots = [path for path in parcel.links if "/snapshots/" in path]
    assert sorted(path.rsplit("/", 1)[1] for path in snapshots) == [*WANTED[:2], "test.parquet", WANTED[2]]
    assert len({path.split("/snapshots/")[1].split("/")[0] for path in snapshots}) == 2
    assert parcel.size < sum(map(len, MODEL.values())) + sum(map(len, QUIZ.values())) + 2000


def test_parcel_is_whole_where_blobs_lie_in_a_store_above(
    hub: StandInHub, here: Site, there: Site, tmp_path: Path
) -> None:
    share_blobs(here.hf_home)
    (here.hf_home / "hub" / "blobs").rename(tmp_path / "store")  # it may even lie elsewhere
    (here.hf_home / "hub" / "blobs").symlink_to(tmp_path / "store")
    parcel = carried(packed(here, tmp_path / "parcel"), tmp_path / "carried")
    shutil.rmtree(here.hf_home)
    close(hub)
    there.unpack(parcel)
    assert [verify(manifest, full=True) for manifest in there.stage()] == [[], []]


def test_export_takes_no_room_twice_and_is_brought_up_to_date(
    hub: StandInHub, here: Site, tmp_path: Path
) -> None:
    folder = packed(here, tmp_path / "parcel")
    weights = next(folder.glob("hf/hub/models--*/blobs/*"))
    assert weights.stat().st_nlink > 1
    packed(here, folder, [here.project / "dataset.json"])
    assert not list(folder.glob("hf/hub/models--*"))
    assert Parcel.read(folder).files.keys() == {
        path.relative_to(folder).as_posix()
        for path in (folder / "hf").rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_folder_of_something_else_is_left_alone(here: Site, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "thesis.tex"
    mine.parent.mkdir()
    mine.write_text("years of work")
    with pytest.raises(UserError, match="is no export and not empty"):
        packed(here, mine.parent)
    assert mine.read_text() == "years of work"


def test_what_is_not_staged_or_has_changed_is_not_exported(here: Site, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not staged yet: `snakemake staged …`"):
        packed(here, tmp_path / "parcel", [tmp_path / "none.json"])
    link = Path(json.loads((here.project / "model.json").read_text())["folder"]) / "model.safetensors"
    link.write_bytes(bytes(len(MODEL["model.safetensors"])))
    with pytest.raises(UserError, match=r"content has changed since it was staged"):
        packed(here, tmp_path / "parcel")
    with pytest.raises(UserError, match="its export was not finished"):
        Parcel.read(tmp_path / "parcel")


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_damaged_parcel_is_refused_before_anything_is_put_in_place(
    here: Site, there: Site, tmp_path: Path, damage: str
) -> None:
    parcel = carried(packed(here, tmp_path / "parcel"), tmp_path / "carried")
    weights = max(parcel.glob("hf/hub/models--*/blobs/*"), key=lambda path: path.stat().st_size)
    data = weights.read_bytes()
    if damage == "flipped":
        weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "truncated":
        weights.write_bytes(data[:-1])
    else:
        weights.unlink()
    said = "is missing" if damage == "missing" else "is damaged"
    with pytest.raises(SlurmevalError, match=rf"{weights.name} {said}: copy it again") as caught:
        there.unpack(parcel)
    assert "\n" not in str(caught.value)
    assert not there.hf_home.exists()


def test_good_files_stay_and_damaged_ones_are_replaced(here: Site, there: Site, tmp_path: Path) -> None:
    parcel = carried(packed(here, tmp_path / "parcel"), tmp_path / "carried")
    there.unpack(parcel, copy=True)
    good, bad = sorted(there.hf_home.glob("hub/*/blobs/*"), key=lambda path: path.stat().st_size)[-2:]
    before = good.stat()
    bad.write_bytes(bytes(bad.stat().st_size))
    done = there.unpack(parcel, copy=True)
    assert (done.placed, good.stat().st_ino, good.stat().st_mtime_ns) == (
        1,
        before.st_ino,
        before.st_mtime_ns,
    )
    assert [verify(manifest, full=True) for manifest in there.stage()] == [[], []]


def test_killed_import_leaves_whole_files_only_and_can_be_started_again(
    here: Site, there: Site, tmp_path: Path
) -> None:
    many = {f"{number:03}.parquet": os.urandom(20_000) for number in range(400)}
    folder = here.hf_home / "slurmeval" / "benchmarks" / "abc"
    for name, data in many.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    files = hash_files(folder, many, Ledger(folder.with_name("abc.ledger.json")))
    write_manifest(tmp_path / "b.json", "benchmark", "b", {}, "abc", folder, files)
    parcel = packed(here, tmp_path / "parcel", [tmp_path / "b.json"])
    code = (
        "import sys; from pathlib import Path; from slurmeval.staging.unpack import Goal, unpack\n"
        "parcel, hf, images, project = map(Path, sys.argv[1:])\n"
        "unpack(parcel, Goal(hf, images, project), print, copy=True)\n"
    )
    argv = [sys.executable, "-c", code, str(parcel)]
    placed = there.hf_home / "slurmeval" / "benchmarks" / "abc"
    goal = [str(there.hf_home), str(there.images), str(there.project)]
    with subprocess.Popen([*argv, *goal], stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: len(list(placed.glob("*.parquet"))) > 20, "some files to be in place")
        process.send_signal(signal.SIGKILL)
    there_now = list(placed.glob("*.parquet"))
    assert 20 < len(there_now) < 400
    assert all(path.read_bytes() == many[path.name] for path in there_now)
    done = there.unpack(parcel, copy=True)
    assert done.there >= len(there_now)
    assert {path.name: path.read_bytes() for path in placed.iterdir()} == many


def test_full_disk_is_one_line_and_leaves_whole_files_only(
    here: Site, there: Site, tmp_path: Path, mount: Callable[..., Path]
) -> None:
    parcel = packed(here, tmp_path / "parcel")
    there.hf_home = mount("256k")
    with pytest.raises(UserError, match=r"import: \d+ kB are needed in "):
        there.unpack(parcel)
    assert not list(there.hf_home.glob("hub"))


def test_links_within_a_benchmarks_caches_stay_links_and_others_become_files(
    here: Site, there: Site, tmp_path: Path
) -> None:
    folder = here.hf_home / "slurmeval" / "benchmarks" / "key"
    (folder / "cache" / "blobs").mkdir(parents=True)
    (folder / "cache" / "blobs" / "b").write_text("data")
    (folder / "cache" / "inside").symlink_to("blobs/b")
    (tmp_path / "elsewhere").write_text("more")
    (folder / "outside").symlink_to(tmp_path / "elsewhere")
    names = ["cache/blobs/b", "cache/inside", "outside"]
    files = hash_files(folder, names, Ledger(folder.with_name("key.ledger.json")))
    write_manifest(tmp_path / "b.json", "benchmark", "b", {}, "key", folder, files)
    there.unpack(carried(packed(here, tmp_path / "parcel", [tmp_path / "b.json"]), tmp_path / "carried"))
    placed = there.hf_home / "slurmeval" / "benchmarks" / "key"
    assert (placed / "cache" / "inside").readlink() == Path("blobs/b")
    assert (placed / "outside").read_text() == "more"
    assert not (placed / "outside").is_symlink()
    ledger = Ledger(placed.with_name("key.ledger.json"))
    assert [ledger.recall(placed, name) for name in names] == [file.sha256 for file in files]


def test_what_harnesses_fetched_by_themselves_goes_along(
    hub: StandInHub, here: Site, there: Site, tmp_path: Path
) -> None:
    before = fetched.snapshots(here.hf_home)
    commit = hub.add("dataset", "acme/words", {"words.txt": b"a b c"})
    entry = Dataset(repo="acme/words", revision=commit)
    stage_dataset("words", entry, tmp_path / "words.json", here.hf_home, here.project, quiet)
    shutil.rmtree(here.hf_home / "slurmeval" / "hub")  # a harness leaves no records
    fetched.note(here.hf_home, before)
    folder = packed(here, tmp_path / "parcel", [])
    assert Parcel.read(folder).refs == {"hub/datasets--acme--words/refs/main": commit}
    there.unpack(folder)
    placed = there.hf_home / "hub" / "datasets--acme--words"
    assert (placed / "snapshots" / commit / "words.txt").read_text() == "a b c"
    assert (placed / "refs" / "main").read_text() == commit


def test_image_gets_a_record_that_fits_where_it_lies_now(here: Site, there: Site, tmp_path: Path) -> None:
    here.images.mkdir()
    sif = here.images / "nemo-bfcl-0123456789ab.sif"
    sif.write_bytes(os.urandom(50_000))
    stamp = {"size": 50_000, "mtime_ns": sif.stat().st_mtime_ns, "sha256": sha256_of_file(sif)}
    record = here.images / "nemo-bfcl~01234567.json"
    write_json(record, {"id": "nemo-bfcl", "digest": "sha256:01", "sif": str(sif), **stamp})
    given = here.images / "given.json"
    write_json(given, {"id": "vllm", "sif": "/shared/vllm.sif", **stamp})
    parcel, left_out = export(tmp_path / "p", [], [record, given], hub_lock.HubLock(), here.hf_home, quiet)
    assert left_out == ["image vllm is in /shared/vllm.sif"]
    assert [image["id"] for image in parcel.images] == ["nemo-bfcl"]
    there.unpack(carried(tmp_path / "p", tmp_path / "carried"), copy=True)
    moved = json.loads((there.images / "nemo-bfcl-0123456789ab.json").read_text())
    placed = there.images / sif.name
    assert moved["sif"] == str(placed)
    assert (moved["size"], moved["mtime_ns"]) == (50_000, placed.stat().st_mtime_ns)
    assert (moved["digest"], moved["sha256"]) == ("sha256:01", sha256_of_file(placed))


def test_branches_are_taken_along_and_differing_ones_named(here: Site, there: Site, tmp_path: Path) -> None:
    other = hub_lock.HubLock().with_commits({Repository("model", "acme/tiny", "main"): "0" * 40})
    hub_lock.add(there.project, other, quiet)
    done = there.unpack(packed(here, tmp_path / "parcel"))
    commit = hub_lock.read(here.project).models["acme/tiny"]["main"]
    assert done.differing == [f"model acme/tiny, main: {'0' * 12} here, {commit[:12]} in the import"]
    assert hub_lock.read(there.project).datasets == hub_lock.read(here.project).datasets


@pytest.mark.parametrize("key", ["files", "links", "refs", "images", "ledgers"])
def test_paths_that_lead_out_of_the_parcel_are_refused(
    here: Site, there: Site, tmp_path: Path, key: str
) -> None:
    folder = packed(here, tmp_path / "parcel")
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    if key == "files":
        manifest["files"]["hf/../../x"] = [1, "0"]
    elif key == "links":
        manifest["links"]["hf/hub/x"] = "../../../../etc/passwd"
    elif key == "images":
        manifest["images"].append({"sif": "../x"})
    elif key == "ledgers":
        manifest["ledgers"][0]["path"] = "/etc/x"
    else:
        manifest["refs"]["../../x"] = "0" * 40
    write_json(folder / "MANIFEST.json", manifest)
    with pytest.raises(UserError, match="leads out of the folder"):
        there.unpack(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "complete": true}'])
def test_manifest_that_is_none_is_one_line(there: Site, tmp_path: Path, text: str) -> None:
    (tmp_path / "MANIFEST.json").write_text(text)
    with pytest.raises(UserError, match=r"damaged; copy it again|another version"):
        there.unpack(tmp_path)
