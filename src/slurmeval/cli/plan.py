"""`slurmeval plan`: what a run would do and take."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}, options_metavar=""
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def plan(options: tuple[str, ...]) -> int:
    """Says what a run would do and take, without running anything.

    OPTIONS are Snakemake's, such as --profile profiles/slurm --configfile FILE, and --results FOLDER.
    Servers, jobs and what they ask Slurm for, GPU-hours by what earlier runs took and at most, what will not
    fit the cluster's limits, and when its queue would start it.
    """
    from slurmeval.planning.dry_run import FULL_PLAN

    # Told exactly this, Snakemake's dry run ends as soon as it knows its jobs
    command = [
        sys.executable,
        "-m",
        "snakemake",
        *_for_snakemake(options),
        "--dry-run",
        "--quiet",
        "rules",
        "progress",
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plan.txt"
        done = subprocess.run(
            command,
            env=os.environ | {FULL_PLAN: str(file)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if file.exists():
            click.echo(file.read_text(), nl=False)
        else:  # why there is no plan
            click.echo(done.stdout, nl=False, err=True)
    return done.returncode


def _for_snakemake(options: Sequence[str]) -> list[str]:
    """Returns the options with `--results FOLDER` as a key of the config, as Snakemake takes it."""
    given, results = list(options), None
    if "--results" in given[:-1]:
        at = given.index("--results")
        results = given[at + 1]
        del given[at : at + 2]
    if results is None:
        return given
    if "--config" in given:
        at = given.index("--config")
        return [*given[: at + 1], f"results={results}", *given[at + 1 :]]
    return [*given, "--config", f"results={results}"]
