"""`slurmeval init` writes a project that can be planned as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from slurmeval.cli import known_sites, main
from slurmeval.config.load import load, load_site
from slurmeval.project_files import DATA


@pytest.mark.parametrize("site", known_sites.SITES)
def test_what_is_written_is_valid(site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(["init", "project", "--site", site]) == 0
    project = tmp_path / "project"
    monkeypatch.chdir(project)
    config = load([Path("config/config.yaml")])
    assert config.planned_benchmarks == ["gsm8k"]
    assert config.servers["default"].gpus == (0 if site == "local" else 1)
    profile = yaml.safe_load(Path("profiles/default/config.yaml").read_text())
    assert profile["rerun-triggers"] == ["params", "mtime"] and profile["nolock"] is True
    if site == "local":
        assert profile["cores"] == 4
    else:
        assert (profile["executor"], profile["slurmeval-site"]) == ("slurmeval", "site.yaml")
        folder = DATA / "profiles" / ("slurm" if site == "slurm" else f"sites/{site}")
        assert load_site(Path("profiles/default/site.yaml")) == load_site(folder / "site.yaml")


def test_suites_take_the_place_of_the_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(["init", "p", "--site", "slurm", "--suite", "starter", "--suite", "maths_base"]) == 0
    assert "  slurmeval doctor --site profiles/default\n" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path / "p")
    config = load([Path("config/config.yaml")])
    assert config.evaluate.suites == ["starter", "maths_base"]
    assert set(config.planned_benchmarks) == {*config.suites["starter"], *config.suites["maths_base"]}
    assert main.run(["init", "q", "--suite", "mats"]) == 2
    assert "--suite mats: no such suite; expected one of code, code_base, " in capsys.readouterr().err


def test_the_config_is_about_ten_lines(tmp_path: Path) -> None:
    assert main.run(["init", str(tmp_path / "project"), "--site", "local"]) == 0
    lines = (tmp_path / "project" / "config" / "config.yaml").read_text().splitlines()
    assert len([line for line in lines if not line.startswith("#")]) == 10


@pytest.mark.parametrize(
    ("options", "weights", "locks"),
    [
        (["--model", "org/Big.Model"], {"repo": "org/Big.Model", "revision": "main"}, True),
        (["--model", "org/m", "--revision", "a" * 40], {"repo": "org/m", "revision": "a" * 40}, False),
        (["--model", "weights"], {"folder": "{folder}/weights"}, False),
    ],
)
def test_a_model_is_named_by_repository_or_folder(
    options: list[str],
    weights: dict[str, str],
    locks: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text("{}")
    assert main.run(["init", "project", "--site", "local", *options]) == 0
    assert ("slurmeval stage lock" in capsys.readouterr().out) is locks
    text = (tmp_path / "project" / "config" / "config.yaml").read_text()
    (model,) = yaml.safe_load(text)["models"].values()
    assert model["weights"] == {key: value.format(folder=tmp_path) for key, value in weights.items()}
    assert load([tmp_path / "project" / "config" / "config.yaml"], project=tmp_path / "project").models


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Snakefile").write_text("mine")
    assert main.run(["init", str(tmp_path), "--site", "local"]) == 2
    assert "Snakefile: is there already; nothing was written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["Snakefile"]


def test_a_model_that_is_neither_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["init", str(tmp_path / "new"), "--model", "no such folder"]) == 2
    assert "expected OWNER/NAME, as the hub has it, or a folder" in capsys.readouterr().err


def test_the_next_step_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(["init", "my study's", "--site", "local"]) == 0
    assert "Next: cd 'my study'\"'\"'s', look at " in capsys.readouterr().out
