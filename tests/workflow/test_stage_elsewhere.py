"""What is staged where there is internet is carried to a site that has none, and runs there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.stand_ins.stand_in_hub import StandInHub, the_only_hub
from tests.workflow.conftest import N_PROBLEMS, Project


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandInHub]:
    with the_only_hub(monkeypatch, tmp_path / "home") as running:
        yield running


def from_hub(project: Project) -> Project:
    """Its model and its dataset come from the hub, by branch."""
    shutil.rmtree(project.folder / "weights")
    shutil.rmtree(project.folder / "problems")
    project.config["models"]["tiny"]["weights"] = {"repo": "acme/tiny"}
    project.config["datasets"]["problems"] = {"repo": "acme/problems"}
    project.config["staging"] = {"pinned": False, "hf_home": "hf"}
    return project


def slurmeval(project: Project, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "slurmeval", *map(str, arguments), "--configfile", "config.yaml"]
    done = project.run_command(command)
    assert done.returncode == 0, done.stdout
    return done


def carry(source: Path, goal: Path) -> None:
    """What is listed at one place to the other, in rsync's place."""
    for line in (source / "slurmeval" / "export" / "files.txt").read_text().splitlines():
        (goal / line).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / line, goal / line)


def test_a_project_without_internet_runs_from_what_another_has_staged(
    make_project: Callable[[str], Project], hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_project("home")
    problems = (home.folder / "problems" / "HumanEval.jsonl.gz").read_bytes()
    hub.add("model", "acme/tiny", {"config.json": b"{}", "model.safetensors": b"weights"})
    hub.add("dataset", "acme/problems", {"HumanEval.jsonl.gz": problems})
    unlocked = from_hub(home).run("staged")
    assert unlocked.returncode != 0 and not hub.seen
    assert "(acme/tiny main, acme/problems main): `slurmeval stage lock --configfile " in unlocked.stdout
    slurmeval(home, "stage", "lock")
    staged = home.run("staged")
    assert staged.returncode == 0, staged.stdout
    slurmeval(home, "stage", "export")

    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    away = from_hub(make_project("away"))
    away.command()  # writes the config
    carry(home.folder / "hf", away.folder / "hf")
    slurmeval(away, "stage", "import")
    asked = len(hub.seen)
    staged = away.run("staged")
    assert staged.returncode == 0, staged.stdout
    run = away.run()
    assert run.returncode == 0, run.stdout
    rows = away.table("evaluations.parquet")
    assert [(row["status"], row["n_samples"]) for row in rows] == [("ok", N_PROBLEMS)] * 3
    assert len(hub.seen) == asked
