"""Generated pages and schemas are what the code says."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scripts.reference import pages
from scripts.reference.config import COMMAND

from slurmeval.catalog.entries import catalog
from slurmeval.cli import main

PROJECT = Path(__file__).parents[3]
FILES = pages.generated_files()


@pytest.mark.parametrize("path", FILES, ids=str)
def test_generated_file_is_current(path: Path) -> None:
    found = (PROJECT / path).read_text()
    diff = "\n".join(
        difflib.unified_diff(found.splitlines(), FILES[path].splitlines(), str(path), "the code", lineterm="")
    )
    assert found == FILES[path], f"{path} is not what the code says; mend it with `{COMMAND}`:\n{diff}"


def test_script_writes_what_is_generated(tmp_path: Path) -> None:
    for folder in ("docs", "containers"):
        (tmp_path / folder).mkdir()
    shutil.copytree(PROJECT / "scripts" / "reference", tmp_path / "scripts" / "reference")
    (tmp_path / "containers/locks").symlink_to(PROJECT / "containers/locks")
    script = shutil.copy(PROJECT / COMMAND, tmp_path / COMMAND)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([script], check=True, env={**os.environ, "PATH": path})
    for generated, wanted in FILES.items():
        assert (tmp_path / generated).read_text() == wanted


def test_every_command_has_its_help() -> None:
    page = FILES[pages.COMMANDS]
    for name in (*main.FOR_PEOPLE, *main.FOR_RULES, "stage export", "images lock"):
        assert f"## `slurmeval {name}`\n\n```\nUsage: slurmeval {name} " in page


def test_every_task_is_listed_once() -> None:
    page = FILES[pages.TASKS]
    assert len(re.findall("^[|] `", page, re.MULTILINE)) == len(catalog().tasks)
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert {len(re.split(r"(?<!\\\\)[|]", row)) for row in rows} == {7}
