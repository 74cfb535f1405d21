"""Bad input through Snakemake: one line with file and key, an exit status, and nothing made or started."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.workflow.conftest import Project


def _set(*place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(config: dict[str, Any]) -> None:
        for key in place[:-1]:
            config = config[key]
        config[place[-1]] = value

    return edit


BAD = {
    "an unknown key": (_set("models", "tiny", "dtpye", value="auto"), "models.tiny.dtpye", "dtype"),
    "no model": (_set("models", value={}), "models", "at least 1"),
    "an unknown benchmark": (_set("suites", "all", value=["frist"]), "suites.all", "first"),
    "an unknown suite": (_set("evaluate", "suites", value=["al"]), "evaluate.suites", "all"),
    "an id with a slash": (_set("suites", "../all", value=["first"]), "suites", "../all"),
    "a negative limit": (_set("benchmarks", "first", "limit", value=-1), "benchmarks.first.limit", "-1"),
    "a branch for a commit": (
        _set("models", "tiny", "weights", value={"repo": "org/model", "revision": "main"}),
        "models.tiny.weights.revision",
        "40",
    ),
    "a wrong type": (_set("gateway", value={"retries": "many"}), "gateway.retries", "many"),
    "an empty suite": (_set("suites", "all", value=[]), "suites.all", "at least 1"),
    "another version": (_set("version", value=2), "version", "version 1"),
    "what the harness cannot do": (_set("benchmarks", "first", "few_shot", value=2), "few_shot", "none"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_config_is_one_line_and_starts_nothing(project: Project, what: str) -> None:
    edit, key, hint = BAD[what]
    edit(project.config)
    run = project.run()
    assert run.returncode != 0
    said = [line for line in run.stdout.splitlines() if not line.startswith("Using profile")]
    assert len(said) == 1, run.stdout
    assert said[0].startswith("slurmeval: config.yaml: ")
    assert key in said[0]
    assert hint in said[0]
    assert not project.results.exists()


def test_an_image_that_nobody_locked_is_one_line_and_starts_nothing(project: Project) -> None:
    server = next(iter(project.config["servers"].values()))
    server["image"] = "vllm-elsewhere"
    server.pop("environment", None)
    run = project.run()
    assert run.returncode != 0
    said = [line for line in run.stdout.splitlines() if not line.startswith("Using profile")]
    assert len(said) == 1, run.stdout
    assert said[0].startswith("slurmeval: image vllm-elsewhere: not in ")
    assert not project.results.exists()


def test_two_entries_with_one_id_are_refused(project: Project) -> None:
    command = project.command()
    with (project.folder / "config.yaml").open("a") as stream:
        stream.write("servers:\n  other: {}\n")
    run = project.run_command(command)
    assert run.returncode != 0
    assert "servers" in run.stdout
    assert "line" in run.stdout
    assert not project.results.exists()


def test_yaml_that_does_not_parse_starts_nothing(project: Project) -> None:
    command = project.command()
    (project.folder / "config.yaml").write_text("models: [1\n")
    run = project.run_command(command)
    assert run.returncode != 0
    assert "not valid JSON or YAML" in run.stdout
    assert "Traceback" not in run.stdout
    assert not project.results.exists()
