"""`scripts/demo` says where the report is, wherever the results go."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "demo"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "The report: {project}/results/demo/report/index.html"),
        (["--config", "results=elsewhere"], "The report: {project}/elsewhere/report/index.html"),
        (["--config", "results=/far/away"], "The report: /far/away/report/index.html"),
        (["-n"], None),
    ],
)
def test_the_report_s_place_is_said(tmp_path: Path, arguments: list[str], said: str | None) -> None:
    for name in ("scripts/setup", ".venv/bin/snakemake"):
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    demo = shutil.copy(SCRIPT, tmp_path / "scripts" / "demo")
    done = subprocess.run([demo, *arguments], capture_output=True, text=True, check=True)
    if said is None:
        assert done.stdout == ""
    else:
        assert done.stdout.startswith(said.format(project=tmp_path))
