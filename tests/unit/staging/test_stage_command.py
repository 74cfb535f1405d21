"""`slurmeval stage`: what it prints, and that a plan's things are what it carries."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from slurmeval.cli import main
from slurmeval.config.load import load
from slurmeval.config.sources import Dataset, Weights
from slurmeval.planning.plan import Plan
from slurmeval.staging.datasets import stage_dataset
from slurmeval.staging.manifest import verify, write_manifest
from slurmeval.staging.models import stage_model
from tests.stand_ins.stand_in_hub import StandInHub

from .conftest import MODEL

ROOT = Path(__file__).parents[3]
Run = Callable[..., tuple[int, str, str]]


def make_project(folder: Path) -> Path:
    """A project whose config names a model and a dataset by branch."""
    folder.mkdir()
    (folder / "containers").symlink_to(ROOT / "containers")
    (folder / "task.yaml").write_text("task: quiz\n")
    task = {"harness": "lm-eval", "task": "quiz", "task_file": "task.yaml", "datasets": ["quiz"]}
    config = {
        "version": 1,
        "models": {"tiny": {"weights": {"repo": "acme/tiny"}, "server": "here"}},
        "servers": {"here": {}},
        "datasets": {"quiz": {"repo": "acme/quiz", "revision": "v1"}},
        "benchmarks": {"quiz": task},
        "suites": {"all": ["quiz"]},
        "evaluate": {"suites": ["all"]},
        "staging": {"pinned": False, "hf_home": "hf"},
    }
    (folder / "config").mkdir()
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture
def project(hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    hub.add("model", "acme/tiny", MODEL)
    hub.add("dataset", "acme/quiz", {"quiz.jsonl": b"{}\n"}, branch="v1")
    folder = make_project(tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def do(*arguments: str) -> tuple[int, str, str]:
        status = main.run(["stage", *arguments])
        return status, *capsys.readouterr()

    return do


def staged(project: Path) -> list[Path]:
    """Stages what the config names, as its rules do; a rehearsal that fetched nothing."""
    plan = Plan(load([project / "config" / "config.yaml"], project=project), project, project / "hf")
    files = [project / file for file in (plan.staged_model("tiny"), plan.staged_dataset("quiz"))]
    stage_model("tiny", Weights(repo="acme/tiny"), files[0], project / "hf", project)
    stage_dataset("quiz", Dataset(repo="acme/quiz", revision="v1"), files[1], project / "hf", project)
    write_manifest(project / plan.rehearsal("quiz"), "benchmark", "quiz", {}, "key", project / "hf", [])
    return files


def test_lock_says_what_it_wrote_and_what_changed(hub: StandInHub, project: Path, run: Run) -> None:
    status, out, _ = run("lock")
    assert status == 0
    assert [line.rpartition(": ")[0] for line in out.splitlines()] == [
        "model acme/tiny, main",
        "dataset acme/quiz, v1",
    ]
    assert run("lock")[1] == "config/hub.lock.yaml stays as it is: 2 branches or tags.\n"
    moved = hub.add("model", "acme/tiny", {**MODEL, "config.json": b"{ }"})
    assert f"model acme/tiny, main: {moved[:12]}, was " in run("lock", "--update")[1]


def test_export_says_what_to_type_and_import_makes_it_found(
    hub: StandInHub, project: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("lock")
    staged(project)
    status, out, _ = run("export")
    assert status == 0
    hf_home = project / "hf"
    listed = hf_home / "slurmeval" / "export" / "files.txt"
    assert f"  rsync -aL --partial --files-from={listed} {hf_home}/ HOST:HF_HOME/" in out.splitlines()
    assert "  slurmeval stage import" in out.splitlines()
    assert "Not in it: the environment vllm-cpu." in out
    other = make_project(tmp_path / "other")
    for line in listed.read_text().splitlines():  # in rsync's place; test_export.py has the real one
        (other / "hf" / line).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(hf_home / line, other / "hf" / line)
    monkeypatch.chdir(other)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    status, out, _ = run("import")
    assert status == 0
    assert f"files are whole in {other / 'hf'}; " in out
    assert [verify(file, full=True) for file in staged(other)] == [[], []]


def test_what_is_not_staged_is_named_with_what_to_type(project: Path, run: Run) -> None:
    status, _, err = run("export")
    assert status == 2
    assert "not staged yet: `snakemake staged …` with this config first" in err


def test_import_of_nothing_is_one_line(project: Path, run: Run) -> None:
    status, _, err = run("import")
    assert (status, len(err.splitlines())) == (2, 1)
    assert "expected the lists of `slurmeval stage export`" in err


def test_config_at_commits_needs_no_lock(project: Path, run: Run) -> None:
    file = project / "config" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["models"]["tiny"]["weights"]["revision"] = config["datasets"]["quiz"]["revision"] = "0" * 40
    file.write_text(json.dumps(config))
    assert run("lock")[:2] == (0, "The config names no branch or tag: every repository is at a commit.\n")
