"""What the Snakefile calls: the plan of its config, and the start and end of a run."""

from __future__ import annotations

import gc
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from slurmeval.config.load import load
from slurmeval.evaluations.controller import Controller
from slurmeval.evaluations.plan import Plan
from slurmeval.files import write_json
from slurmeval.harnesses import problems
from slurmeval.paths import hf_home

DEFAULT_CONFIG = "config/config.yaml"


class Workflow:
    """The run that a Snakemake process is. Raises UserError for a config that will not do."""

    def __init__(self, workflow: Any) -> None:
        # A plan is millions of objects that stay: looking for garbage among them takes a tenth of the time
        gc.set_threshold(200_000, 50, 50)
        project = Path.cwd()
        settings = workflow.config_settings
        files = [Path(file) for file in settings.configfiles or [project / DEFAULT_CONFIG]]
        config = load(files, settings.config or {}, project=project, check_benchmark=problems)
        self.plan = Plan(config, project, hf_home(config.staging.hf_home, project))
        self.controller = Controller(self.plan.absolute)

    @property
    def shell_prefix(self) -> str:
        """What every rule's command begins with: `slurmeval` by this very Python, and the run's document."""
        program, run_file = shlex.quote(sys.executable), shlex.quote(str(self.plan.run_file))
        prefix = f'set -euo pipefail; slurmeval() {{ {program} -m slurmeval "$@"; }}; RUN_FILE={run_file}; '
        return prefix.replace("{", "{{").replace("}", "}}")  # Snakemake formats it

    def begin(self) -> None:
        """Before the first job: takes the folder, and leaves word for the jobs."""
        self.controller.begin()
        write_json(self.plan.run_file, self.plan.document)

    def end(self) -> None:
        """After the last job. Servers see that their leases are gone, and stop."""
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
