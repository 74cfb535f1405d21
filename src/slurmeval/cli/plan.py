"""`slurmeval plan`: what a run would do and take."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}, options_metavar=""
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def plan(options: tuple[str, ...]) -> int:
    """Says what a run would do and take, without running anything.

    OPTIONS are Snakemake's, such as --profile profiles/slurm --configfile FILE. Servers, jobs, GPU-hours by
    what earlier runs took, what will not fit the cluster's limits, and when its queue would start it."""
    from slurmeval.evaluations.dry_run import FULL_PLAN

    # Told exactly this, Snakemake's dry run ends as soon as it knows its jobs
    command = [sys.executable, "-m", "snakemake", *options, "--dry-run", "--quiet", "rules", "progress"]
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
