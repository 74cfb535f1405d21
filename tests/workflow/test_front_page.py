"""What the repository shows of itself to others: the workflow catalog, and the README."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
SNAKEMAKE = [sys.executable, "-m", "snakemake"]


def test_small_config_is_planned_from_its_folder() -> None:
    done = subprocess.run(
        [*SNAKEMAKE, "--directory", ".test", "--dry-run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Will start 1 server and 1 evaluation" in done.stdout


def test_flags_of_the_catalog_are_taken() -> None:
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    flags = usage["mandatory-flags"]["flags"].split()
    done = subprocess.run(
        [*SNAKEMAKE, *flags, "--configfile", "config/demo.yaml", "--dry-run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"desc", "flags"} == usage["mandatory-flags"].keys()
    assert usage["software-stack-deployment"].keys() == {"conda", "apptainer", "apptainer+conda", "other"}
    assert (ROOT / "config/README.md").is_file()


def test_readme_shows_what_is_submitted_for_one_gpu() -> None:
    plan = [sys.executable, "-m", "slurmeval", "plan", "--profile", "profiles/slurm"]
    done = subprocess.run(
        [*plan, "--configfile", "config/one-gpu.yaml"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    readme = (ROOT / "README.md").read_text()
    (shown,) = re.findall(r"^```\n(server of .*?)^```$", readme, re.MULTILINE | re.DOTALL)
    said = " ".join(done.stdout.split())
    for line in shown.splitlines():
        assert line in said
