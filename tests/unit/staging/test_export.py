"""What was staged on a machine with internet is carried to one without, by rsync, and found there."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from slurmeval.config.sources import Dataset, Weights
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.files import sha256_of_file, write_json
from slurmeval.staging import fetched, hub_lock
from slurmeval.staging.datasets import stage_dataset
from slurmeval.staging.export import Export, export
from slurmeval.staging.importing import ImportedFiles, import_lists
from slurmeval.staging.manifest import HashCache, hash_files, verify, write_manifest
from slurmeval.staging.models import stage_model
from slurmeval.staging.repository import Repository
from tests.lacking import lacking
from tests.slurm.cluster import packages
from tests.stand_ins.stand_in_hub import StandInHub

from .conftest import MODEL, WANTED, share_blobs

QUIZ = {"data/test.parquet": os.urandom(70_000), "data/train.parquet": b"not wanted", "README.md": b"x"}
TINY, DATA = Weights(repo="acme/tiny"), Dataset(repo="acme/quiz", files=["data/te*"])
LISTS = "slurmeval/export"
Carry = Callable[["Site", "Site"], None]


def quiet(_: str) -> None:
    """Progress that nobody reads."""


class Site:
    """A machine with a project."""

    def __init__(self, folder: Path) -> None:
        self.project, self.hf_home, self.images = folder / "project", folder / "hf", folder / "images"
        self.project.mkdir(parents=True)

    @property
    def lists(self) -> Path:
        return self.hf_home / LISTS

    @property
    def files(self) -> list[str]:
        """What is to be carried, but for the lists themselves."""
        lines = (self.lists / "files.txt").read_text().splitlines()
        return [line for line in lines if not line.startswith(LISTS)]

    def stage(self) -> list[Path]:
        """A model and a dataset, both by branch; gives their manifests."""
        manifests = [self.project / "model.json", self.project / "dataset.json"]
        stage_model("tiny", TINY, manifests[0], self.hf_home, self.project, None, quiet)
        stage_dataset("quiz", DATA, manifests[1], self.hf_home, self.project, quiet)
        return manifests

    def export(self, manifests: list[Path] | None = None, images: list[Path] | None = None) -> Export:
        given = (
            [self.project / "model.json", self.project / "dataset.json"] if manifests is None else manifests
        )
        return export(given, images or [], hub_lock.read(self.project), self.hf_home, quiet)

    def import_lists(self) -> ImportedFiles:
        return import_lists(self.hf_home, self.images, self.project, quiet)


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


def rsync(listed: Path, source: Path, goal: Path) -> None:
    """As `slurmeval stage export` says."""
    argv = ["rsync", "-aL", "--partial", f"--files-from={listed}", f"{source}/", f"{goal}/"]
    subprocess.run(argv, check=True)


@pytest.fixture
def carry() -> Carry:
    """Carries what is listed at one site to another."""
    if not shutil.which("rsync"):
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            lacking("rsync is not installed")
        packages.install(packages.CARRYING)

    def do(source: Site, goal: Site) -> None:
        rsync(source.lists / "files.txt", source.hf_home, goal.hf_home)
        if (source.lists / "images.txt").read_text():
            rsync(source.lists / "images.txt", source.images, goal.images)

    return do


def close(hub: StandInHub) -> None:
    """From now on nobody can reach it."""
    hub.seen.clear()
    hub.repos.clear()


def test_what_was_carried_is_staged_without_network(
    hub: StandInHub, here: Site, there: Site, carry: Carry, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.export()
    carry(here, there)
    close(hub)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    there.import_lists()
    model, dataset = there.stage()
    for manifest, original in ((model, "model.json"), (dataset, "dataset.json")):
        before, after = json.loads((here.project / original).read_text()), json.loads(manifest.read_text())
        assert (after["files"], after["revision"]) == (before["files"], before["revision"])
        assert Path(after["folder"]).is_relative_to(there.hf_home)
        assert verify(manifest, full=True) == []
    assert hub.seen == []


def test_sums_are_good_for_sha256sum(here: Site, there: Site, carry: Carry) -> None:
    here.export()
    carry(here, there)
    for site in (here, there):
        argv = ["sha256sum", "--quiet", "--strict", "-c", f"{LISTS}/SHA256SUMS"]
        done = subprocess.run(argv, cwd=site.hf_home, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_lists_name_one_snapshot_and_what_the_config_needs_of_it(here: Site) -> None:
    found = here.export()
    snapshots = [path for path in here.files if "/snapshots/" in path]
    assert sorted(path.rsplit("/", 1)[1] for path in snapshots) == [*WANTED[:2], "test.parquet", WANTED[2]]
    assert len({path.split("/snapshots/")[1].split("/")[0] for path in snapshots}) == 2
    assert found.size < sum(map(len, MODEL.values())) + sum(map(len, QUIZ.values())) + 2000
    assert not any("hash_cache" in path or "/blobs/" in path for path in here.files)


def test_carried_files_are_whole_where_blobs_lie_in_a_store_elsewhere(
    hub: StandInHub, here: Site, there: Site, carry: Carry, tmp_path: Path
) -> None:
    share_blobs(here.hf_home)
    (here.hf_home / "hub" / "blobs").rename(tmp_path / "store")
    (here.hf_home / "hub" / "blobs").symlink_to(tmp_path / "store")
    here.export()
    carry(here, there)
    shutil.rmtree(here.hf_home)
    close(hub)
    there.import_lists()
    assert [verify(manifest, full=True) for manifest in there.stage()] == [[], []]


def test_what_is_exported_again_replaces_the_lists(here: Site) -> None:
    here.export()
    assert any("models--" in path for path in here.files)
    here.export([here.project / "dataset.json"])
    assert not any("models--" in path for path in here.files)


def test_what_is_not_staged_or_has_changed_is_not_exported(here: Site, tmp_path: Path) -> None:
    here.export()
    with pytest.raises(UserError, match="not staged yet: `snakemake staged …`"):
        here.export([tmp_path / "none.json"])
    link = Path(json.loads((here.project / "model.json").read_text())["folder"]) / "model.safetensors"
    link.write_bytes(bytes(len(MODEL["model.safetensors"])))
    with pytest.raises(UserError, match=r"content has changed since it was staged"):
        here.export()
    assert not list(here.lists.iterdir())
    link.unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: is missing: stage again"):
        here.export()


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_damaged_file_is_refused_and_nothing_is_remembered(
    here: Site, there: Site, carry: Carry, damage: str
) -> None:
    here.export()
    carry(here, there)
    weights = next(there.hf_home.glob("hub/models--*/snapshots/*/model.safetensors"))
    data, times = weights.read_bytes(), (weights.stat().st_atime_ns, weights.stat().st_mtime_ns)
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(data[:-1] + (bytes([data[-1] ^ 1]) if damage == "flipped" else b""))
        os.utime(weights, ns=times)
    said = "is missing" if damage == "missing" else "is damaged"
    with pytest.raises(SlurmevalError, match=rf"model\.safetensors {said}: copy again with the") as caught:
        there.import_lists()
    assert "\n" not in str(caught.value)
    assert not list(there.hf_home.rglob("*.ledger.json"))
    assert not (there.project / hub_lock.HUB_LOCK).exists()


def test_what_was_carried_and_never_imported_is_read_before_it_is_trusted(
    hub: StandInHub, here: Site, there: Site, carry: Carry
) -> None:
    here.export()
    carry(here, there)
    weights = next(there.hf_home.glob("hub/models--*/snapshots/*/model.safetensors"))
    times = (weights.stat().st_atime_ns, weights.stat().st_mtime_ns)
    weights.write_bytes(bytes(weights.stat().st_size))
    os.utime(weights, ns=times)
    there.stage()  # downloads it
    assert weights.read_bytes() == MODEL["model.safetensors"]


def test_import_reads_again_only_what_was_touched(here: Site, there: Site, carry: Carry) -> None:
    here.export()
    carry(here, there)
    first = there.import_lists()
    assert first.read == first.files
    carry(here, there)  # nothing is new
    listings = sum(path.startswith("slurmeval/hub/") for path in here.files)
    assert there.import_lists().read == listings
    weights = next(there.hf_home.glob("hub/models--*/snapshots/*/model.safetensors"))
    os.utime(weights)
    assert there.import_lists().read == listings + 1


def test_links_in_a_benchmarks_caches_become_files(
    here: Site, there: Site, carry: Carry, tmp_path: Path
) -> None:
    folder = here.hf_home / "slurmeval" / "benchmarks" / "key"
    (folder / "cache" / "blobs").mkdir(parents=True)
    (folder / "cache" / "blobs" / "b").write_text("data")
    (folder / "cache" / "inside").symlink_to("blobs/b")
    (tmp_path / "elsewhere").write_text("more")
    (folder / "outside").symlink_to(tmp_path / "elsewhere")
    names = ["cache/blobs/b", "cache/inside", "outside"]
    files = hash_files(folder, names, HashCache(folder.with_name("key.ledger.json")))
    write_manifest(tmp_path / "b.json", "benchmark", "b", {}, "key", folder, files)
    here.export([tmp_path / "b.json"])
    carry(here, there)
    there.import_lists()
    placed = there.hf_home / "slurmeval" / "benchmarks" / "key"
    assert [(placed / name).read_text() for name in names] == ["data", "data", "more"]
    assert not any((placed / name).is_symlink() for name in names)
    hash_cache = HashCache(placed.with_name("key.ledger.json"))
    assert [hash_cache.recall(placed, name) for name in names] == [file.sha256 for file in files]


def test_what_harnesses_fetched_by_themselves_goes_along(
    hub: StandInHub, here: Site, there: Site, carry: Carry, tmp_path: Path
) -> None:
    before = fetched.snapshots(here.hf_home)
    commit = hub.add("dataset", "acme/words", {"words.txt": b"a b c"})
    entry = Dataset(repo="acme/words", revision=commit)
    stage_dataset("words", entry, tmp_path / "words.json", here.hf_home, here.project, quiet)
    shutil.rmtree(here.hf_home / "slurmeval" / "hub")  # a harness leaves no records
    fetched.note(here.hf_home, before)
    assert here.export([]).refs == {"hub/datasets--acme--words/refs/main": commit}
    carry(here, there)
    there.import_lists()
    placed = there.hf_home / "hub" / "datasets--acme--words"
    assert (placed / "snapshots" / commit / "words.txt").read_text() == "a b c"
    assert (placed / "refs" / "main").read_text() == commit
    there.export([])  # from there it can be carried on
    assert there.files == here.files


def test_branch_that_stands_for_another_commit_there_stays(here: Site, there: Site, carry: Carry) -> None:
    here.export()
    carry(here, there)
    ref = there.hf_home / "hub" / "models--acme--tiny" / "refs" / "main"
    ref.parent.mkdir()
    ref.write_text("0" * 40)
    there.import_lists()
    assert ref.read_text() == "0" * 40


def test_image_gets_a_record_that_fits_where_it_lies_now(here: Site, there: Site, carry: Carry) -> None:
    here.images.mkdir()
    sif = here.images / "nemo-bfcl-0123456789ab.sif"
    sif.write_bytes(os.urandom(50_000))
    stamp = {"size": 50_000, "mtime_ns": sif.stat().st_mtime_ns, "sha256": sha256_of_file(sif)}
    record = here.images / "nemo-bfcl~01234567.json"
    write_json(record, {"id": "nemo-bfcl", "digest": "sha256:01", "sif": str(sif), **stamp})
    given = here.images / "given.json"
    write_json(given, {"id": "vllm", "sif": "/shared/vllm.sif", **stamp})
    found = here.export([], [record, given])
    assert found.left_out == ["image vllm is in /shared/vllm.sif"]
    assert [image.id for image in found.images] == ["nemo-bfcl"]
    carry(here, there)
    there.import_lists()
    moved = json.loads((there.images / "nemo-bfcl-0123456789ab.json").read_text())
    placed = there.images / sif.name
    assert moved["sif"] == str(placed)
    assert (moved["size"], moved["mtime_ns"]) == (50_000, placed.stat().st_mtime_ns)
    assert (moved["digest"], moved["sha256"]) == ("sha256:01", sha256_of_file(placed))
    placed.write_bytes(bytes(50_000))
    with pytest.raises(SlurmevalError, match=r"nemo-bfcl-0123456789ab\.sif is damaged"):
        there.import_lists()
    sif.write_bytes(bytes(50_000))
    with pytest.raises(UserError, match="its content has changed since it was staged"):
        here.export([], [record])


def test_branches_are_taken_along_and_differing_ones_named(here: Site, there: Site, carry: Carry) -> None:
    other = hub_lock.HubLock().with_commits({Repository("model", "acme/tiny", "main"): "0" * 40})
    hub_lock.add(there.project, other, quiet)
    here.export()
    carry(here, there)
    done = there.import_lists()
    commit = hub_lock.read(here.project).models["acme/tiny"]["main"]
    assert done.differing == [f"model acme/tiny, main: {'0' * 12} here, {commit[:12]} in the import"]
    assert hub_lock.read(there.project).datasets == hub_lock.read(here.project).datasets


def test_file_whose_name_no_list_can_hold_is_refused(here: Site, tmp_path: Path) -> None:
    folder = here.hf_home / "slurmeval" / "benchmarks" / "key"
    folder.mkdir(parents=True)
    (folder / "two\nlines").write_text("x")
    files = hash_files(folder, ["two\nlines"], HashCache(folder.with_name("key.ledger.json")))
    write_manifest(tmp_path / "b.json", "benchmark", "b", {}, "key", folder, files)
    with pytest.raises(UserError, match="a line break or"):
        here.export([tmp_path / "b.json"])


@pytest.mark.parametrize("key", ["files", "cache", "folder", "refs", "images"])
def test_paths_that_lead_out_of_hf_home_are_refused(here: Site, key: str) -> None:
    here.export()
    document = json.loads((here.lists / "export.json").read_text())
    if key == "files":
        (here.lists / "SHA256SUMS").write_text(f"{'0' * 64}  hub/../../x\n")
    elif key == "cache":
        document["caches"]["/etc/x"] = "hub/x"
    elif key == "folder":
        document["caches"]["slurmeval/x.json"] = "hub//etc"
    elif key == "images":
        image = {"id": "x", "sif": "../x", "size": 1, "mtime_ns": 1, "sha256": ""}
        document["images"].append(image)
    else:
        document["refs"]["../../x"] = "0" * 40
    write_json(here.lists / "export.json", document)
    with pytest.raises(UserError, match="leads out of"):
        here.import_lists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "caches": {}}'])
def test_document_that_is_none_is_one_line(there: Site, text: str) -> None:
    there.lists.mkdir(parents=True)
    (there.lists / "export.json").write_text(text)
    (there.lists / "SHA256SUMS").write_text("")
    with pytest.raises(UserError, match=r"damaged lists; copy them again|another version"):
        there.import_lists()


def test_sums_that_are_none_are_one_line(here: Site) -> None:
    here.export()
    (here.lists / "SHA256SUMS").write_text("not a sum\n")
    with pytest.raises(UserError, match="damaged lists; copy them again"):
        here.import_lists()
