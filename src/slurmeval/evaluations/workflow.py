"""What the Snakefile calls: the plan of its config, and the start and end of a run."""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from slurmeval.config.load import load, load_site
from slurmeval.config.site import Site
from slurmeval.errors import UserError
from slurmeval.evaluations.cluster import (
    cancel_unleased_servers,
    check_slurm,
    forget_requests,
    wait_for_jobs,
)
from slurmeval.evaluations.controller import Controller
from slurmeval.evaluations.dry_run import tell_at_exit
from slurmeval.evaluations.leasing import forget_leases
from slurmeval.evaluations.plan import Plan
from slurmeval.files import write_json
from slurmeval.harnesses import problems
from slurmeval.paths import hf_home

DEFAULT_CONFIG = "config/config.yaml"
EXECUTOR = "slurmeval"


def command_line() -> argparse.Namespace:
    """What Snakemake was told, by command line and profiles; its workflow object does not know the executor
    yet when it reads the Snakefile."""
    from snakemake.cli import parse_args

    with contextlib.redirect_stderr(io.StringIO()):  # it names the profiles a second time
        arguments: argparse.Namespace = parse_args(sys.argv[1:])[1]
    return arguments


def site_of(arguments: argparse.Namespace) -> Site | None:
    """The cluster that jobs go to; None: this machine. Raises UserError."""
    if arguments.executor in (None, "local"):
        return None
    if arguments.executor != EXECUTOR:
        reason = f"the executor '{arguments.executor}' cannot run evaluations; use {EXECUTOR} or local"
        raise UserError(f"{reason} (profiles/slurm and profiles/local say so)")
    if arguments.slurmeval_site is None:
        raise UserError("the profile has no slurmeval-site: the file that says how jobs are asked for")
    return load_site(Path(arguments.slurmeval_site))


class Workflow:
    """The run that a Snakemake process is. Raises UserError for a config that will not do."""

    def __init__(self, workflow: Any) -> None:
        # A plan is millions of objects that stay: looking for garbage among them takes a tenth of the time
        gc.set_threshold(200_000, 50, 50)
        project = Path.cwd()
        settings = workflow.config_settings
        files = [Path(file) for file in settings.configfiles or [project / DEFAULT_CONFIG]]
        config = load(files, settings.config or {}, project=project, check_benchmark=problems)
        arguments = command_line()
        site = site_of(arguments)
        self.plan = Plan(config, project, hf_home(config.staging.hf_home, project), site)
        self.controller = Controller(self.plan.absolute)
        if arguments.dryrun:
            tell_at_exit(workflow, self.plan)
        else:
            # Snakemake plans no lease where there is a file; those of a run that died are of no use
            forget_leases(self.plan.absolute, self.plan.absolute.controller)

    @property
    def command_prefix(self) -> str:
        """What every rule's command begins with: `slurmeval` by this very Python, and the run's document."""
        program, run_file = shlex.quote(sys.executable), shlex.quote(str(self.plan.run_file))
        return f'set -euo pipefail; slurmeval() {{ {program} -m slurmeval "$@"; }}; RUN_FILE={run_file}; '

    @property
    def shell_prefix(self) -> str:
        """The same for Snakemake, which formats it."""
        return self.command_prefix.replace("{", "{{").replace("}", "}}")

    def begin(self) -> None:
        """Before the first job: takes the folder, and leaves word for the jobs."""
        if self.plan.site is not None:
            check_slurm()
        self.controller.begin()
        forget_requests(self.plan.absolute)
        write_json(self.plan.run_file, self.plan.document)

    def end(self) -> None:
        """After the last job. Servers see that their leases are gone, and stop."""
        self.controller.end_leases()
        if self.plan.site is not None:
            cancel_unleased_servers(self.plan.absolute)
            wait_for_jobs(self.plan.absolute)
        self.controller.end()

    def report_failures(self) -> None:
        """A run with failures ends with tables and a report too; the next run makes them again."""
        self.controller.end_leases()
        jobs = ("aggregate", "report")
        slurmeval, run_file = [sys.executable, "-m", "slurmeval"], str(self.plan.run_file)
        for job in jobs:
            if subprocess.run([*slurmeval, job, run_file], check=False).returncode != 0:
                return
        # Older than any evaluation: once the failed ones are mended, Snakemake gathers anew
        for path in (
            self.plan.absolute.all_metrics,
            self.plan.absolute.all_evaluations,
            self.plan.absolute.all_servers,
        ):
            os.utime(path, (0, 0))
