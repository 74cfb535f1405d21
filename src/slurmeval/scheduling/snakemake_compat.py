"""The parts of Snakemake that it does not document. No other module of slurmeval uses such parts.

The tests check that the installed Snakemake has each of them, and name what is missing.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from slurmeval.errors import UserError

RUN_VARIABLE = "RUN"
"""Name of the Snakefile's global variable that holds the run."""

INCOMPLETE_RECORDS = Path(".snakemake") / "incomplete"
"""Folder where Snakemake notes the outputs of jobs that have begun and not ended."""

NAME_MAX = 255
"""Bytes of a file name where the file system does not say."""


def command_line() -> tuple[argparse.Namespace, Path]:
    """Returns Snakemake's options from the command line and all profiles, and the folder it was started in.

    The workflow object knows neither the executor nor its settings while the Snakefile is read. Raises
    UserError where Snakemake was not started by its command.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "args_to_api" and frame.f_globals.get("__name__") == "snakemake.cli":
            handler = frame.f_locals["workflow_api"]._workdir_handler
            started_in = None if handler is None else handler.olddir
            return frame.f_locals["args"], started_in or Path.cwd()
        frame = frame.f_back
    raise UserError("the Snakefile is read by the command snakemake only")


@dataclass(frozen=True)
class ResourceOptions:
    """What Snakemake's options say of resources and threads."""

    set_resources: dict[str, list[str]]
    """Names of --set-resources, by rule."""
    set_threads: list[str]
    """Rules of --set-threads."""
    defaults: dict[str, int | str]
    """--default-resources."""
    limits: list[str]
    """Names of --resources, which Snakemake counts."""


def resource_options(workflow: Any) -> ResourceOptions:
    """Returns what the command line and profiles say of resources and threads."""
    settings = workflow.resource_settings
    defaults = {} if settings.default_resources is None else settings._parsed_default_resources
    return ResourceOptions(
        {rule: list(names) for rule, names in settings.overwrite_resources.items()},
        list(settings.overwrite_threads),
        {name: _plain(resource) for name, resource in defaults.items()},
        list(settings.resources),
    )


def _plain(resource: Any) -> int | str:
    """Returns a resource's value; of an expression its text, without quotes."""
    if not resource.is_evaluable():
        return resource.value  # type: ignore[no-any-return]
    return str(resource.raw).strip("'\"")


def before_execution(workflow: Any, prepare: Callable[[], None]) -> None:
    """Has `prepare` called before Snakemake plans jobs that it will execute.

    It is not called by what only reads the Snakefile or marks files as up to date: --lint, --dag, --summary,
    --report, --unlock, -n, --touch.
    """
    execute = workflow.execute

    @functools.wraps(execute)
    def prepared(*, executor_plugin: Any, **options: Any) -> Any:
        if not executor_plugin.common_settings.dryrun_exec and not _touches(executor_plugin):
            prepare()
        return execute(executor_plugin=executor_plugin, **options)

    workflow.execute = prepared


def _touches(executor_plugin: Any) -> bool:
    from snakemake.executors.touch import Executor

    return issubclass(executor_plugin.executor, Executor)


def incomplete_record(project: Path, output: str) -> Path:
    """Returns the file by which Snakemake notes that `output` is being made; names too long are folders."""
    folder = project / INCOMPLETE_RECORDS
    try:
        longest = os.pathconf(folder, "PC_NAME_MAX") or NAME_MAX
    except OSError:
        longest = NAME_MAX
    text = urlsafe_b64encode(output.encode()).decode()
    parts = [text[first : first + longest - 1] for first in range(0, len(text), longest - 1)]
    return folder.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])


def add_to_priority(workflow: Any, more: Callable[[Any], float]) -> None:
    """Adds what `more` says of a job to its priority, each time that jobs are picked.

    A rule's priority may be a function too, but Snakemake calls it once, before the first job.
    """
    dag = workflow.dag
    of_rule = dag.priority
    dag.priority = lambda job: of_rule(job) + more(job)


def run_of(workflow: Any) -> Any:
    """Returns the run that the Snakefile has made."""
    return workflow.globals[RUN_VARIABLE]


def was_told_to_stop(workflow: Any) -> bool:
    """Returns whether Ctrl-C or SIGTERM has ended the run. False before there is a scheduler."""
    scheduler = getattr(workflow, "scheduler", None)
    return scheduler is not None and bool(scheduler._user_kill)


def forgo_retries(job: Any) -> None:
    """Has Snakemake not try a job again: it retries by the number of attempts alone."""
    job.attempt = job.restart_times + 1
