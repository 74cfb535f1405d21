"""The pre-commit config, hosted CI and `scripts/test` run the same checks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
SCRIPT = PROJECT / "scripts" / "test"


def test_pre_commit_runs_exactly_the_tools_of_style() -> None:
    function = re.search(r"^style\(\) \{\n(.*?)^\}", SCRIPT.read_text(), re.MULTILINE | re.DOTALL)
    assert function is not None
    lines = [line.strip() for line in function[1].splitlines()]
    checks = [line for line in lines if not line.startswith(("local ", "mapfile "))]
    config = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    entries = [hook["entry"].removeprefix(".venv/bin/") for hook in hooks]
    assert entries == [line.removesuffix(' "${sources[@]}"') for line in checks]
    # pre-commit names the files itself where style names them
    assert [hook.get("pass_filenames", True) for hook in hooks] == ["sources" in line for line in checks]


def test_hosted_ci_runs_every_part_that_all_runs() -> None:
    script = SCRIPT.read_text()
    listed = re.search(r"for each in ([a-z ]+);", script)
    assert listed is not None
    beside = re.findall(r"^ +(?:part|\"\$0\") ([a-z]+)(?: >.*&)?$", script, re.MULTILINE)
    parts = [*listed[1].replace("fast", "style unit").split(), *beside]
    workflow = yaml.safe_load((PROJECT / ".github/workflows/tests.yaml").read_text())
    hosted: list[str] = []
    for job in workflow["jobs"].values():
        hosted += job["strategy"]["matrix"]["part"]
        assert job["steps"][-1]["run"] == "scripts/test ${{ matrix.part }}"
    assert sorted(hosted) == sorted(parts)


@pytest.mark.parametrize(
    ("given", "run"),
    [
        ([], "tests/unit"),
        (["-k", "docs"], "tests/unit"),
        (["tests/unit/test_docs.py", "-x"], ""),
        (["tests/unit/test_docs.py::test_links"], ""),
        (["tests/unit/no_such_file.py"], "tests/unit"),
    ],
)
def test_a_named_file_is_run_in_place_of_all(given: list[str], run: str) -> None:
    function = re.search(r"^unless_named\(\) \{\n.*?^\}", SCRIPT.read_text(), re.MULTILINE | re.DOTALL)
    assert function is not None
    script = f'{function[0]}\nunless_named tests/unit "$@"'
    done = subprocess.run(
        ["bash", "-euc", script, "test", *given], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    assert done.stdout.strip() == run


@pytest.mark.parametrize(
    "arguments", [["style", "-x"], ["docs", "-x"], ["all", "-x"], ["unknown"], ["--help"]]
)
def test_script_says_its_parts_in_place_of_what_it_does_not_know(arguments: list[str]) -> None:
    done = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == (0 if arguments == ["--help"] else 2)
    assert done.stdout.startswith("Sets all up and runs the tests")
    listed = re.findall(r"^  ([a-z]+) ", done.stdout, re.MULTILINE)
    allowed = re.search(r"^([a-z |]+)\) ;;$", SCRIPT.read_text(), re.MULTILINE)
    assert allowed is not None
    assert sorted(listed) == sorted(allowed[1].split(" | "))
