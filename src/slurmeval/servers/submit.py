"""Submits a server's job: `python -m slurmeval.servers.submit <server folder>`.

A command of its own, since submitit takes longer to import than most leases take, and a local job stays in
the session of its submitter. Slurm is the same code: spec.cluster is `slurm`, spec.job its parameters.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slurmeval.errors import SlurmevalError
from slurmeval.files import create_exclusively
from slurmeval.processes import identity
from slurmeval.servers.folder import ServerFolder
from slurmeval.servers.launch import is_secret
from slurmeval.servers.leases import NOT_YET
from slurmeval.servers.shared_job import SharedSupervisors
from slurmeval.servers.supervisor import Supervisor
from slurmeval.servers.timing import MARGIN_S
from slurmeval.slurm import commands, request
from slurmeval.slurm.commands import SlurmAway, SubmissionUnsure
from slurmeval.state.records import load, read, write
from slurmeval.state.server import ServerJob, SharedJob
from slurmeval.state.server_spec import ServerSpec

SLURM_AWAY_S = 60.0
"""How long Slurm may be away."""

RETRY_S = 3.0

RANKS_GO_TOGETHER = "--kill-on-bad-exit=1"
"""For srun: a rank that was killed takes the others with it."""


def submit(path: Path, name: str | None = None, one_at_a_time: bool = False) -> ServerJob:
    """Submits the job of the server in `path` and returns what `job.json` then holds.

    `one_at_a_time`: on Slurm, of the jobs with that name one runs at once. Raises SubmissionRefused with the
    batch system's words, or SlurmAway. For a process of its own: it takes secrets, and what a job of Slurm
    set, out of `os.environ`, which jobs inherit.
    """
    folder = ServerFolder(path)
    name = name or f"serve-{path.parent.name}"
    spec = load(folder.spec, ServerSpec)
    members, function = [path], Supervisor(path)  # type: list[Path], Callable[[], Any]
    if (shared := read(folder.shared_job, SharedJob)) is not None:
        members += map(Path, shared.others)
        spec, function = replace(spec, job=shared.job), SharedSupervisors(members)
    content = _written_down(spec, _submit(folder, spec, function, name, one_at_a_time), name)
    for member in members:
        write(ServerFolder(member).job, content)
    return content


def _written_down(spec: ServerSpec, job_id: str, name: str) -> ServerJob:
    """Returns what `job.json` holds."""
    submitted_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    process = identity(int(job_id)) if spec.cluster == "local" else None
    return ServerJob(job_id, spec.cluster, submitted_at, name, process)


def _submit(
    folder: ServerFolder, spec: ServerSpec, function: Callable[[], Any], name: str, one_at_a_time: bool
) -> str:
    """Submits a job of `spec` with its files in `folder`, and returns its id."""
    import submitit

    executor = submitit.AutoExecutor(
        folder=folder.submitit, cluster=spec.cluster, **{f"{spec.cluster}_max_num_timeout": 1000}
    )
    # submitit sends SIGUSR2 this long before the time limit: the server drains, then the job is requeued.
    signal_delay_s = min(int(spec.drain_s) + MARGIN_S, spec.time_limit_min * 30)
    parameters: dict[str, Any] = {"name": name, "timeout_min": spec.time_limit_min}
    if spec.is_on_slurm:
        parameters |= asdict(spec.job) | {"slurm_signal_delay_s": signal_delay_s}
        further = parameters["slurm_additional_parameters"]
        if one_at_a_time:
            further["dependency"] = "singleton"
        if spec.nodes > 1:
            parameters["slurm_srun_args"] = [RANKS_GO_TOGETHER]
        _clean_environment([f"--{flag}" for flag in further])
    executor.update_parameters(**parameters)
    inner = executor._executor
    if spec.is_on_slurm:
        inner.update_parameters(**request.SUBMITIT_DEFAULTS)
        inner._submit_command = lambda command: _sbatch(inner, command, folder.path)
    else:
        _clean_environment([])
        # AutoExecutor does not pass this one on to the local executor.
        inner.update_parameters(signal_delay_s=signal_delay_s)
    job_id: str = executor.submit(function).job_id
    return job_id


def _clean_environment(flags: list[str]) -> None:
    wanted = request.environment(flags, os.environ)
    for name in list(os.environ):
        if name not in wanted or (is_secret(name) and name not in request.KEPT):
            del os.environ[name]


def _sbatch(executor: Any, command: str, folder: Path) -> Any:
    """In place of submitit's own call, which cannot tell a refusal from a controller that is away."""
    script = executor._make_submission_file_text(command, "")
    (folder / "submitit" / "job.sh").write_text(script)
    job_id = _submit_once(script, folder)
    return executor.job_class(folder=executor.folder, job_id=job_id, tasks=list(range(executor._num_tasks())))


def _submit_once(script: str, folder: Path) -> str:
    """Submits from the server's folder: by it a job is found whose submission went unanswered."""
    deadline = time.monotonic() + SLURM_AWAY_S
    unsure = False
    while True:
        try:
            if unsure and (job_id := _found(folder)) is not None:
                return job_id
            return commands.submit([], script, folder)
        except SlurmAway as error:
            unsure = unsure or isinstance(error, SubmissionUnsure)
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S)


def _found(folder: Path) -> str | None:
    """The job in the queue that was submitted for this folder."""
    there = folder.resolve()
    return next((job.job_id for job in commands.queue() if Path(job.workdir) == there), None)


def main() -> None:
    """The command. A folder is submitted once."""
    parser = argparse.ArgumentParser(prog="python -m slurmeval.servers.submit")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", help="the job's")
    parser.add_argument(
        "--one-at-a-time", action="store_true", help="on Slurm: of the jobs with this name one runs at once"
    )
    arguments = parser.parse_args()
    if not create_exclusively(ServerFolder(arguments.folder).submitted):
        sys.exit(f"{arguments.folder} has been submitted before")
    try:
        submit(arguments.folder, arguments.name, arguments.one_at_a_time)
    except SlurmevalError as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_YET if commands.passes(error) else 1)


if __name__ == "__main__":
    main()
