"""What slurmeval uses of Snakemake beside its documented interface is there in the installed version."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import snakemake.api
import snakemake.cli
import snakemake.dag
import snakemake.executors.dryrun
import snakemake.executors.touch
import snakemake.jobs
import snakemake.logging
import snakemake.scheduling.job_scheduler
import snakemake.workflow
from snakemake.persistence.file import FilePersistence

from slurmeval.errors import UserError
from slurmeval.scheduling import snakemake_compat
from slurmeval.workflow.half_made import forget_half_made

SCHEDULER = snakemake.scheduling.job_scheduler.JobScheduler


def source(thing: Any) -> str:
    return inspect.getsource(thing)


CLI = snakemake.cli.args_to_api
EXECUTE = snakemake.workflow.Workflow.execute
PARTS: dict[str, Callable[[], bool]] = {
    "cli.args_to_api(args)": lambda: "args" in inspect.signature(CLI).parameters,
    "cli.args_to_api's variable workflow_api": lambda: (
        "workflow_api" in CLI.__code__.co_varnames + CLI.__code__.co_cellvars
    ),
    "WorkflowApi._workdir_handler": lambda: "_workdir_handler" in source(snakemake.api.WorkflowApi),
    "Workflow.execute(executor_plugin)": lambda: "executor_plugin" in inspect.signature(EXECUTE).parameters,
    "Workflow.execute called by keywords": lambda: (
        "workflow.execute(\n            executor_plugin=" in source(snakemake.api.DAGApi.execute_workflow)
    ),
    "Workflow.touch": lambda: isinstance(snakemake.workflow.Workflow.touch, property),
    "JobScheduler._user_kill": lambda: "self._user_kill" in source(SCHEDULER.__init__),
    "retries by Job.attempt and Job.restart_times": lambda: (
        "job.restart_times > job.attempt - 1" in source(SCHEDULER)
    ),
    "DAG.priority(job), asked whenever jobs are picked": lambda: (
        "self.dag.priority(self)" in source(snakemake.jobs.Job.priority.fget)
        and "priority" not in getattr(snakemake.dag.DAG, "__slots__", ())
    ),
    "executors.touch.Executor": lambda: isinstance(snakemake.executors.touch.Executor, type),
    "logging.ColorizingTextHandler": lambda: isinstance(snakemake.logging.ColorizingTextHandler, type),
    "logging.DefaultFormatter": lambda: isinstance(snakemake.logging.DefaultFormatter, type),
    "logging.get_event": lambda: callable(snakemake.logging.get_event),
}


@pytest.mark.parametrize("part", PARTS)
def test_snakemake_has(part: str) -> None:
    try:
        there = PARTS[part]()
    except AttributeError:
        there = False
    assert there, f"the installed Snakemake {snakemake.__version__} has no {part}"


def test_the_note_of_a_half_made_file_is_where_snakemake_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    persistence = FilePersistence(nolock=True)
    names = [Path("made"), Path("m" * 200)]
    for name in names:
        name.touch()
        persistence._mark_incomplete(str(name), None)
    assert forget_half_made(tmp_path, [*names, Path("other")]) == names
    assert not any(name.exists() for name in names)
    assert persistence._filter_incomplete_keys(map(str, names)) == set()


def test_the_command_line_is_that_of_the_command_only() -> None:
    with pytest.raises(UserError, match="read by the command snakemake only"):
        snakemake_compat.command_line()


class Workflow:
    """As much of Snakemake's workflow as `before_execution` uses."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def execute(self, *, executor_plugin: Any, **_: Any) -> str:
        self.calls.append("execute")
        return "its answer"


@pytest.mark.parametrize(
    ("executor", "dry", "called"),
    [
        (SimpleNamespace, False, ["prepare", "execute"]),
        (snakemake.executors.dryrun.Executor, True, ["execute"]),
        (snakemake.executors.touch.Executor, False, ["execute"]),
    ],
)
def test_only_execution_is_prepared(executor: type, dry: bool, called: list[str]) -> None:
    workflow = Workflow()
    snakemake_compat.before_execution(workflow, lambda: workflow.calls.append("prepare"))
    plugin = SimpleNamespace(executor=executor, common_settings=SimpleNamespace(dryrun_exec=dry))
    assert workflow.execute(executor_plugin=plugin, scheduler_plugin=None) == "its answer"
    assert workflow.calls == called


def test_a_run_without_a_scheduler_was_not_told_to_stop() -> None:
    assert not snakemake_compat.was_told_to_stop(SimpleNamespace())
    assert snakemake_compat.was_told_to_stop(
        SimpleNamespace(scheduler=SimpleNamespace(_user_kill="graceful"))
    )


def test_a_job_that_forgoes_its_retries_is_not_tried_again() -> None:
    job = argparse.Namespace(attempt=1, restart_times=2)
    snakemake_compat.forgo_retries(job)
    assert job.attempt > job.restart_times
