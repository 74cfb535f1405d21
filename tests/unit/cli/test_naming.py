"""One way to name a config and its results, in all commands."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from slurmeval.cli import main, naming
from slurmeval.cli.plan import _for_snakemake

PROJECT = Path(__file__).parents[3]
COMMANDS = ("check", "doctor", "prune", "rescore", "status", "stop", "verify")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_both_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--configfile FILE..." in shown
    assert "--results" in shown


@pytest.mark.parametrize(
    ("given", "spread"),
    [
        (
            ["status", "--configfile", "a.yaml", "b.yml", "--watch"],
            "status --configfile a.yaml --configfile b.yml --watch",
        ),
        (["stop", "--configfile", "a.yaml", "tiny"], "stop --configfile a.yaml tiny"),
        (["check", "a.yaml", "b.yaml"], "check a.yaml b.yaml"),
        (["check", "--configfile", "odd", "b.yaml"], "check --configfile odd --configfile b.yaml"),
        (["check", "--configfile"], "check --configfile"),
    ],
)
def test_several_files_may_follow_the_option(given: list[str], spread: str) -> None:
    assert " ".join(naming.spread(given)) == spread


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--profile", "p"], "--profile p"),
        (["--results", "r", "--profile", "p"], "--profile p --config results=r"),
        (["--config", "a=1", "--results", "r"], "--config results=r a=1"),
    ],
)
def test_snakemake_is_told_the_results_as_a_key(given: list[str], told: str) -> None:
    assert " ".join(_for_snakemake(given)) == told


def test_the_results_are_the_configs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load((PROJECT / "config" / "demo.yaml").read_text()) | {"results": "results-mine"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    for name in ("config", "containers"):
        (tmp_path / name).symlink_to(PROJECT / name)
    monkeypatch.chdir(tmp_path)
    assert main.run(["status", "--configfile", "mine.yaml"]) == 0
    assert "Nothing has run here yet (results-mine)" in capsys.readouterr().out
    (tmp_path / "other").mkdir()
    assert main.run(["status", "--configfile", "mine.yaml", "--results", "other"]) == 0
    assert "(other)" in capsys.readouterr().out
    runs = tmp_path / "results-mine" / "state" / "runs"
    runs.mkdir(parents=True)
    (runs / "1.json").write_text("{}")
    assert main.run(["status"]) == 0
    assert "--results results-mine" in " ".join(capsys.readouterr().out.split())
    assert main.run(["status", "--configfile", "no.yaml"]) == 2


@pytest.mark.parametrize("command", ["status", "stop", "show", "rescore", "verify", "prune", "images prune"])
def test_a_results_folder_that_is_not_there_is_one_line_with_what_is_near(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").touch()
    runs = tmp_path / "results-mine" / "state" / "runs"
    runs.mkdir(parents=True)
    (runs / "1.json").write_text("{}")
    assert main.run([*command.split(), "--results", "results"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "slurmeval: --results results: no such folder; something has run in results-mine"


def test_where_something_has_run_is_said_by_commands_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "results" / "judged" / "state" / "runs"
    runs.mkdir(parents=True)
    (runs / "1.json").write_text("{}")
    assert main.run(["judge"]) == 2
    assert "something has run in results/judged: name it with --results" in capsys.readouterr().err


def test_check_takes_files_either_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(PROJECT)
    said = []
    for arguments in (["config/demo.yaml"], ["--configfile", "config/demo.yaml"]):
        assert main.run(["check", *arguments]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert main.run(["check", "config/demo.yaml", "--results", "elsewhere"]) == 0
    assert "results in elsewhere" in capsys.readouterr().out
