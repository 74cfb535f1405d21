"""What lies on the disk between runs: checked, and cleared away."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from slurmeval.cli import main
from slurmeval.environments.environments import environment_for
from slurmeval.files import sha256_of_file, write_json
from slurmeval.paths import Paths
from slurmeval.processes import identity
from slurmeval.state.records import write
from slurmeval.state.runtime_records import EnvironmentRecord, ImageRecord
from tests.run_documents import benchmark_entry, model_entry, run_document


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    file = tmp_path / "weights" / "model.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    listed = {"path": file.name, "size": 7, "sha256": sha256_of_file(file)}
    manifest = tmp_path / "results" / "staged" / "models" / "tiny.json"
    write_json(manifest, {"folder": str(file.parent), "files": [listed]})
    return file


def verify(tmp_path: Path, *options: str) -> int:
    return main.run(["verify", "--results", str(tmp_path / "results"), *options])


def test_verify_is_content_with_what_was_staged(
    staged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(tmp_path, "--full") == 0
    assert capsys.readouterr().out == "model tiny: ok\n"


def test_verify_passes_over_tokenizers_that_were_loaded(
    staged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path / "results" / "staged" / "tokenizers" / "tiny~0.json", {"model": "tiny"})
    assert verify(tmp_path) == 0
    assert capsys.readouterr().out == "model tiny: ok\n"


def test_verify_names_a_truncated_file(
    staged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    staged.write_bytes(b"weig")
    assert verify(tmp_path) == 1
    assert "model.safetensors: 4 bytes instead of 7" in capsys.readouterr().out


def test_verify_sees_a_flipped_byte_only_in_full(staged: Path, tmp_path: Path) -> None:
    staged.write_bytes(b"weightz")
    assert verify(tmp_path) == 0
    assert verify(tmp_path, "--full") == 1


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a project with one lock, its environment, and that of an earlier lock."""
    monkeypatch.chdir(tmp_path)
    locks = tmp_path / "containers" / "locks"
    locks.mkdir(parents=True)
    (locks / "fruit.lock").write_text("apple==1.0\n")
    for folder in (current(tmp_path), tmp_path / ".environments" / EARLIER):
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").touch()
    return tmp_path


EARLIER = "fruit-0123456789ab"


def current(project: Path) -> Path:
    return environment_for(project / "containers" / "locks" / "fruit.lock", project / ".environments").folder


def begin_run(results: Path, environment: Path, runtime: str = "environment", **files: str) -> None:
    """A run's document that names an environment, and `files` that a live process holds."""
    record = results / "record.json"
    if runtime == "image":
        write(record, ImageRecord(id="i", sif=environment, size=1, mtime_ns=1, sha256=""))
    else:
        write(record, EnvironmentRecord(folder=environment, python=environment / "bin" / "python"))
    paths = Paths.of_results(results)
    models = {"m": model_entry(paths, "m", runtime=runtime, environment=record)}
    write(results / "state" / "runs" / "0123.json", run_document(paths, models, {"b": benchmark_entry()}))
    for name in files.values():
        write_json(results / name, asdict(identity()))


@pytest.mark.parametrize("folder", [".environments", "$PWD/.environments"])
def test_prune_keeps_what_a_lock_asks_for_and_removes_earlier_environments(
    project: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    named = [] if folder == ".environments" else ["--environments", str(project / ".environments")]
    assert main.run(["prune", *named]) == 0
    assert current(project).exists()
    assert not (project / ".environments" / EARLIER).exists()
    assert capsys.readouterr().out == f"removed .environments/{EARLIER}\n"


def test_prune_dry_run_removes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["prune", "--dry-run"]) == 0
    assert capsys.readouterr().out == f"would remove .environments/{EARLIER}\n"
    assert (project / ".environments" / EARLIER).exists()


def test_prune_empties_the_package_cache_when_told_and_never_the_users_own(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, the_users = project / ".environments" / ".uv-cache", project / "uv"
    monkeypatch.setenv("UV_CACHE_DIR", str(the_users))
    for cache in (ours, the_users):
        (cache / "archive-v0" / "apple").mkdir(parents=True)
    assert main.run(["prune"]) == 0
    assert (ours / "archive-v0").exists()
    assert "package cache: " in capsys.readouterr().out
    assert main.run(["prune", "--cache"]) == 0
    assert not (ours / "archive-v0").exists()
    assert (the_users / "archive-v0").exists()
    assert main.run(["prune", "--cache"]) == 0


@pytest.mark.parametrize("held", ["state/controller.json", "work/m/b/0123/owner.json"])
def test_prune_keeps_what_a_run_under_way_uses(project: Path, held: str) -> None:
    earlier = project / ".environments" / EARLIER
    begin_run(project / "results" / "demo", earlier, held=held)
    assert main.run(["prune"]) == 0
    assert earlier.exists()
    (project / "results" / "demo" / held).unlink()
    assert main.run(["prune"]) == 0
    assert not earlier.exists()


def test_prune_keeps_what_a_server_without_its_run_uses(project: Path) -> None:
    earlier, results = project / ".environments" / EARLIER, project / "results"
    begin_run(results, earlier)
    state = results / "state" / "servers" / "m" / "0001" / "state.json"
    write_json(state, {"status": "ready", "owner": asdict(identity())})
    assert main.run(["prune"]) == 0
    assert earlier.exists()
    write_json(state, {"status": "stopped", "owner": asdict(identity())})
    assert main.run(["prune"]) == 0
    assert not earlier.exists()


def test_prune_looks_at_results_elsewhere_when_told(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    earlier, elsewhere = project / ".environments" / EARLIER, tmp_path_factory.mktemp("elsewhere")
    begin_run(elsewhere, earlier, held="state/controller.json")
    assert main.run(["prune", "--results", str(elsewhere)]) == 0
    assert earlier.exists()


def test_images_prune_keeps_what_a_run_under_way_uses(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "containers" / "images.yaml").write_text("{}\n")
    sif = project / ".images" / "pear-0123456789ab.sif"
    sif.parent.mkdir()
    sif.touch()
    begin_run(project / "results", sif, "image", held="state/controller.json")
    assert main.run(["images", "prune"]) == 0
    assert sif.exists()
    (project / "results" / "state" / "controller.json").unlink()
    assert main.run(["images", "prune"]) == 0
    assert not sif.exists()


@pytest.mark.parametrize("command", [["prune"], ["images", "prune"]])
def test_nothing_is_removed_in_a_folder_that_is_no_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    places = [tmp_path / ".environments" / EARLIER, tmp_path / ".images" / "pear-0123456789ab.sif"]
    for place in places:
        place.mkdir(parents=True)
    assert main.run(command) != 0
    assert "is no project folder" in capsys.readouterr().err
    assert all(place.exists() for place in places)
