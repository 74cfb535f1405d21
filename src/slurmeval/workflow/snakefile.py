"""What the Snakefile calls: the plan of its config, and the start and end of a run."""

from __future__ import annotations

import argparse
import gc
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from slurmeval import secrets
from slurmeval.build_once import forget_lost
from slurmeval.config.load import load, load_site
from slurmeval.config.site import Site
from slurmeval.errors import UserError
from slurmeval.harnesses import model_problems, problems
from slurmeval.harnesses.early import config_problems
from slurmeval.ownership import live_owner
from slurmeval.paths import hf_home
from slurmeval.planning.dry_run import tell_at_exit
from slurmeval.planning.plan import Plan
from slurmeval.planning.preflight import (
    need_commits,
    need_plain_paths,
    need_servable,
    require_access_and_space,
)
from slurmeval.planning.untracked import disown
from slurmeval.progress import to_stderr
from slurmeval.scheduling import snakemake_compat
from slurmeval.scheduling.job_resources import site_of_options
from slurmeval.scheduling.leasing import forget_leases
from slurmeval.slurm.request import forget_own_job
from slurmeval.state.records import write
from slurmeval.variables import (
    forget_missing_certificates,
    isolate_python,
    shadowing,
)
from slurmeval.wording import counted
from slurmeval.workflow.controller import Controller
from slurmeval.workflow.half_made import forget_half_made
from slurmeval.workflow.lifecycle import (
    cancel_unleased_servers,
    check_slurm,
    forget_requests,
    wait_for_jobs,
)
from slurmeval.workflow.precedence import Precedence
from slurmeval.workflow.progress import Telling, answers_kept
from slurmeval.workflow.terminal import speak_briefly

DEFAULT_CONFIG = "config/config.yaml"
EXECUTOR = "slurmeval"
MOST_NAMED = 5
"""Evaluations that a message names."""


def site_of(arguments: argparse.Namespace, started_in: Path) -> Site | None:
    """Returns the cluster that jobs go to, or None for this machine. Raises UserError.

    A site file's relative path counts from `started_in`, the folder that Snakemake was started in.
    """
    if arguments.executor in (None, "local"):
        return None
    if arguments.executor != EXECUTOR:
        reason = f"the executor '{arguments.executor}' cannot run evaluations; use {EXECUTOR} or local"
        raise UserError(f"{reason} (profiles/slurm and profiles/local say so)")
    if arguments.slurmeval_site is None:
        raise UserError("the profile has no slurmeval-site: the file that says how jobs are asked for")
    return load_site(started_in / arguments.slurmeval_site)


class Workflow:
    """The run of a Snakemake process. Reading the Snakefile changes nothing on disk and asks nobody.

    Raises UserError for a config that cannot be run.
    """

    def __init__(self, workflow: Any) -> None:
        # A plan is millions of objects that stay: looking for garbage among them takes a tenth of the time
        gc.set_threshold(200_000, 50, 50)
        if (folders := shadowing()) is not None:
            to_stderr(f"PYTHONPATH puts {folders} before slurmeval's packages: unset it (slurmeval doctor)")
        isolate_python(os.environ)  # all that Snakemake starts inherits it
        forget_missing_certificates(os.environ)
        project = Path.cwd()
        settings = workflow.config_settings
        self._config_files = [Path(file) for file in settings.configfiles or [project / DEFAULT_CONFIG]]
        config = load(
            self._config_files,
            settings.config or {},
            project=project,
            check_benchmark=problems,
            check_pair=model_problems,
            check_config=config_problems,
        )
        self._options, started_in = snakemake_compat.command_line()
        site = site_of(self._options, started_in)
        if site is not None:
            site = site_of_options(site, snakemake_compat.resource_options(workflow))
            forget_own_job(os.environ)
        self._workflow = workflow
        self._stopped = False
        self._telling: Telling | None = None
        self.plan = Plan(config, project, hf_home(config.staging.hf_home, project), site)
        need_plain_paths(self.plan)
        for name in self.plan.models:
            need_servable(config, name, project / self.plan.staged_model(name), project, site)
        self.controller = Controller(self.plan.absolute)
        self.precedence = Precedence(self.plan)
        self._keep_files_of_a_live_run()
        speak_briefly()
        if self._options.dryrun:
            tell_at_exit(workflow, self.plan)
        snakemake_compat.before_execution(workflow, self._prepare)

    def _keep_files_of_a_live_run(self) -> None:
        """Raises UserError for a command that deletes the files of a run that is under way."""
        if not (self._options.delete_all_output or self._options.delete_temp_output) or self._options.dryrun:
            return
        owner = live_owner(self.plan.absolute.controller)
        if owner is not None:
            raise UserError(f"a run is under way in this folder ({owner}): nothing is deleted; stop it first")

    def _prepare(self) -> None:
        """Removes what a run that died has left, before Snakemake plans jobs.

        Ends the process with one line where a branch has no commit yet.
        """
        try:
            need_commits(self.plan, self._config_files)
        except UserError as error:
            sys.exit(f"slurmeval: {error}")
        paths = self.plan.absolute
        # Snakemake plans no lease where there is a file; those of a run that died are of no use
        forget_leases(paths, paths.controller)
        forget_lost(paths.environments, "python")
        forget_lost(paths.images, "sif")
        secrets.withdraw_unused(paths)
        if live_owner(paths.controller) is None and not self._options.ignore_incomplete:
            forget_half_made(self.plan.project, self.plan.read_as_ancient)

    @property
    def program(self) -> str:
        """The program `slurmeval` of this very Python, as a shell reads it."""
        return shlex.join([sys.executable, "-m", "slurmeval"])

    def begin(self) -> None:
        """Takes the folder and writes what jobs read. Called before the first job. Raises UserError."""
        if self._workflow.touch:
            self.controller.begin()
            return
        if self.plan.site is not None:
            check_slurm()
        config, project, benchmarks = self.plan.config, self.plan.project, self.plan.benchmarks
        # What cannot end well is refused before anything begins
        given = secrets.values(config, project, secrets.needed(config, benchmarks))
        os.environ.update({name: value for name, value in given.items() if name in secrets.HUB})
        require_access_and_space(self.plan, to_stderr)
        self.controller.begin()
        secrets.hand_out(config, project, benchmarks, self.plan.absolute.secrets)
        forget_requests(self.plan.absolute)
        write(self.plan.run_file, self.plan.document)
        self._note_interrupts()
        self._telling = Telling(self.plan.document, to_stderr)
        self._telling.begin()
        if self.plan.site is None:
            snakemake_compat.add_to_priority(self._workflow, self.precedence.added_priority)

    def _note_interrupts(self) -> None:
        """Ctrl-C is told apart from a failure at the end of the run."""
        before = signal.getsignal(signal.SIGINT)

        def note(signum: int, frame: Any) -> None:
            self._stopped = True
            if callable(before):
                before(signum, frame)

        signal.signal(signal.SIGINT, note)

    @property
    def _was_stopped(self) -> bool:
        return self._stopped or snakemake_compat.was_told_to_stop(self._workflow)

    def end_well(self) -> None:
        """After a run without failures.

        Raises UserError where an evaluation that it was to make has no result all the same.
        """
        self.end()
        if self._workflow.touch:
            return
        wanted = [job for job in self._workflow.dag.jobs if job.rule.name == "evaluate"]
        pairs = sorted((job.wildcards.model, job.wildcards.benchmark) for job in wanted)
        left = [pair for pair in pairs if not self.plan.absolute.evaluation(*pair).exists()]
        if left:
            named = ", ".join(f"{model} on {benchmark}" for model, benchmark in left[:MOST_NAMED])
            more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
            nothing = f"{len(left)} of {len(pairs)} evaluations have neither a result nor a failure"
            raise UserError(f"{nothing} ({named}{more}); the same command carries on")

    def end(self) -> None:
        """After the last job. Servers see that their leases are gone, and stop."""
        if self._telling is not None:
            self._telling.end()
        self.controller.end_leases()
        if self.plan.site is not None and not self._workflow.touch:
            cancel_unleased_servers(self.plan.absolute)
            wait_for_jobs(self.plan.absolute)
        secrets.withdraw_unused(self.plan.absolute)
        self.controller.end()

    def report_failures(self) -> None:
        """A run with failures ends with tables and a report too; the next run makes them again."""
        if self._telling is not None:
            self._telling.end()
        self.controller.end_leases()
        disown(self.plan.absolute)
        jobs = ("aggregate", "report")
        slurmeval, run_file = [sys.executable, "-m", "slurmeval"], str(self.plan.run_file)
        for job in jobs:
            if subprocess.run([*slurmeval, job, run_file], check=False).returncode != 0:
                break
        if self._was_stopped:
            kept = answers_kept(self.plan.document)
            going_on = "" if self.plan.site is None else "; evaluations that have begun go on in their jobs"
            to_stderr(
                f"stopped; {counted(kept, 'answer')} {'is' if kept == 1 else 'are'} kept{going_on}; "
                "the same command carries on"
            )
        else:
            to_stderr("the same command tries again what failed, and nothing else")
