"""Evaluations as jobs of Slurm: submitting them, and finding out what became of them.

Nothing runs on the login node for an evaluation that waits: its job depends on its server's.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slurmeval.config.of_run import site_of
from slurmeval.errors import ErrorClass, EvaluationFailed, NotYet, ServerFailed, SlurmevalError
from slurmeval.ownership import live_owner
from slurmeval.scheduling import finished
from slurmeval.scheduling.failures import failed_attempts, last_words, no_server, record
from slurmeval.scheduling.job_ends import Ends
from slurmeval.scheduling.job_resources import EvaluationRequest, by_the_site, flags_of
from slurmeval.scheduling.leasing import lease, release, server_jobs
from slurmeval.scheduling.leftover_jobs import LeftOver
from slurmeval.scheduling.replicas import held, is_running, is_up, lease_files
from slurmeval.servers import colocated
from slurmeval.servers.folder import ServerFolder
from slurmeval.slurm import commands
from slurmeval.slurm.commands import QueuedJob, job_name
from slurmeval.slurm.reasons import launch_failed
from slurmeval.state.evaluation import EvaluationSubmission, FailureRecord, GatewayProgress
from slurmeval.state.records import append, load, read
from slurmeval.state.run_document import RunDocument
from slurmeval.variables import checked

FILES_S = 60.0
"""How long the files of a job that has ended may take to be seen here (network file systems cache)."""

UNKNOWN_S = 600.0
"""How long accounting may be silent about a job that left the queue."""

RETRIED = frozenset({ErrorClass.OUT_OF_MEMORY, ErrorClass.NODE_FAILURE, ErrorClass.TIME_LIMIT})
"""Where another try may end otherwise."""


@dataclass
class EvaluationJob:
    """An evaluation's job, submitted by this run or an earlier one."""

    model: str
    benchmark: str
    job_id: str
    failures: int
    """Failures on record before it."""
    answered: int
    """Requests answered before it."""
    ended_since: float | None = None
    """When it was first seen to have left the queue (monotonic clock)."""
    without_lease: bool = False
    """Whether its leases were given back since nobody knows of it."""
    unreadable_since: float | None = None
    """Since when its files cannot be read (monotonic clock)."""

    @property
    def pair(self) -> tuple[str, str]:
        """Model and benchmark."""
        return self.model, self.benchmark


@dataclass(frozen=True)
class Ended:
    """What became of a job."""

    failure: EvaluationFailed | None = None
    retry: bool = False


@dataclass
class SlurmJobs:
    """The evaluations' jobs of one run."""

    run: RunDocument
    clock: Any = time.monotonic
    _ends: Ends = field(default_factory=Ends)
    _over: set[str] = field(default_factory=set)
    """Jobs whose evaluations have ended."""
    _out_of_memory: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        site = site_of(self.run)
        assert site is not None
        self.site = site
        self.paths = self.run.paths
        self.name = job_name(self.paths.results, "evaluate")
        self._left_over = LeftOver(self.paths, self.name, self._over)

    def submit(
        self, model: str, benchmark: str, command: str, request: EvaluationRequest | None = None
    ) -> EvaluationJob | None:
        """Submits `command` (for a shell), or takes over what an earlier run has left.

        That is a job in the queue, or finished results, which need no job. None: its server has not begun.
        Raises NotYet, with no lease held, where Slurm takes no further job; EvaluationFailed, recorded, where
        there is no server or Slurm refuses; SlurmAway.
        """
        failures = failed_attempts(self.paths.failure(model, benchmark))
        answered = self._answered(model, benchmark)
        if finished.is_there(self.run, model, benchmark):
            finished.publish(self.run, model, benchmark)
            return EvaluationJob(model, benchmark, "none", failures, answered)
        started_at = datetime.now(UTC)
        try:
            left = None
            if self.colocated_folder(model, benchmark) is None:
                left = self._left_over.take(model, benchmark, self._comment(model, benchmark))
            job_id = left or self._submit(
                model, benchmark, command, request or by_the_site(self.run, self.site, model, benchmark)
            )
        except commands.SubmissionUnsure:
            self._left_over.forget()  # it may be in the queue: look there before the next try
            raise
        except (ServerFailed, commands.SubmissionRefused) as error:
            release(self.run, model, benchmark)
            if commands.passes(error):
                raise NotYet(str(error)) from error
            failure = (
                no_server(error)
                if isinstance(error, ServerFailed)
                else EvaluationFailed(
                    ErrorClass.CANCELLED, f"Slurm does not take the evaluation's job: {error}"
                )
            )
            record(self.paths.failure(model, benchmark), failure, model, benchmark, started_at, None)
            raise failure from error
        return None if job_id is None else EvaluationJob(model, benchmark, job_id, failures, answered)

    def note(self, model: str, benchmark: str, failure: EvaluationFailed) -> None:
        """Puts the failure of an evaluation that has no job on record, as far as files can be written."""
        file = self.paths.failure(model, benchmark)
        with contextlib.suppress(OSError, ValueError):
            release(self.run, model, benchmark)
            record(file, failure, model, benchmark, datetime.now(UTC), None)

    def _submit(self, model: str, benchmark: str, command: str, asked: EvaluationRequest) -> str | None:
        dependency: list[str] = []
        needs_server = not finished.all_answered(self.run, model, benchmark)
        if needs_server:
            lease(self.run, model, benchmark)
        if needs_server and not self.site.dependencies:
            if not any(is_running(server) for server in held(self.run, model, benchmark)):
                return None
        elif servers := server_jobs(self.run, model, benchmark):
            dependency = ["--dependency=" + "?".join(f"after:{job}" for job in servers)]
        if self.colocated_folder(model, benchmark) is not None:
            return self._request(model, benchmark, command)
        more = 2 ** self._out_of_memory.get((model, benchmark), 0)
        request = flags_of(self.run, model, benchmark, asked, more)
        log = self.paths.log("evaluate", model, f"{benchmark}-%j")
        log.parent.mkdir(parents=True, exist_ok=True)
        own = [
            f"--job-name={self.name}",
            f"--comment={self._comment(model, benchmark)}",
            f"--output={log}",
            "--open-mode=append",
            "--requeue",
        ]
        own_gpus = self.run.benchmarks[benchmark].own_gpus
        setup = self.site.servers.setup if own_gpus else self.site.evaluations.setup
        lines = ["#!/bin/bash", *checked(setup), command]
        project = self.run.project
        job_id = commands.submit([*request, *own, *dependency], "\n".join(lines) + "\n", project)
        line = EvaluationSubmission(
            job_id=job_id,
            submitted_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            comment=self._comment(model, benchmark),
        )
        append(self.paths.evaluation_jobs(model, benchmark), line)
        return job_id

    def has_server(self, model: str) -> bool:
        """Whether the model's newest server, of any replica, is up."""
        places = (self.paths.servers.glob(f"{model}@*"), [self.paths.servers_of(model)])
        folders = (max(replica.glob("[0-9]" * 4), default=None) for place in places for replica in place)
        return any(folder is not None and is_up(ServerFolder(folder)) for folder in folders)

    def colocated_folder(self, model: str, benchmark: str) -> Path | None:
        """The folder of requests to its server; None where evaluations are jobs of their own."""
        folder = self.run.models[self.run.server_of(model, benchmark)].serving.colocated
        return None if folder is None else Path(folder)

    def _request(self, model: str, benchmark: str, command: str) -> str:
        folder = self.colocated_folder(model, benchmark)
        assert folder is not None
        log = self.paths.log("evaluate", model, f"{benchmark}-inside")
        log.parent.mkdir(parents=True, exist_ok=True)
        colocated.request(folder, self.run.lease_name(model, benchmark), command, log)
        return f"inside {self.run.server_of(model, benchmark)}"

    def _comment(self, model: str, benchmark: str) -> str:
        """What a job is for, to the last parameter: a later run knows its own by it."""
        keys = self.run.answers_key(model, benchmark), self.run.benchmarks[benchmark].results_key
        return f"{model} {benchmark} {keys[0][:12]} {keys[1][:12]}"

    # What became of them

    def look(
        self, jobs: Iterable[EvaluationJob], queue: Mapping[str, QueuedJob]
    ) -> dict[tuple[str, str], Ended]:
        """Which of these have ended, and how. `queue` is what Slurm has, by job id."""
        jobs = list(jobs)
        ended: dict[tuple[str, str], Ended] = {}
        asked: list[EvaluationJob] = []
        for job in jobs:
            try:
                outcome = self._look_at(job, queue)
            except (OSError, ValueError) as error:
                outcome = self._unreadable(job, error)
            if outcome is not None:
                ended[job.pair] = outcome
            elif job.ended_since is not None and self.colocated_folder(*job.pair) is None:
                asked.append(job)
        if asked:
            ended |= self._asked(asked)
        self._over |= {job.job_id for job in jobs if job.pair in ended}
        self._cancel_requeued(queue)
        return ended

    def _cancel_requeued(self, queue: Mapping[str, QueuedJob]) -> None:
        """Slurm puts jobs back into the queue whose node went down, those too that have no more to do."""
        again = [job_id for job_id in self._over if job_id in queue and queue[job_id].waits]
        if again:
            commands.cancel(again)

    def _look_at(self, job: EvaluationJob, queue: Mapping[str, QueuedJob]) -> Ended | None:
        """How an evaluation has ended, as its files say; None where they do not.

        `ended_since` is set where its job has left the queue.
        """
        job.unreadable_since = None
        if finished.is_there(self.run, *job.pair):
            return Ended()
        failure = self._recorded(job)
        if (folder := self.colocated_folder(*job.pair)) is not None:
            if failure is not None:
                return Ended(failure, self._worth_retrying(job, failure.error_class))
            status = colocated.status(folder, self.run.lease_name(*job.pair))
            if status is None or job.ended_since is None:
                # It may have ended between the two looks: look once more
                job.ended_since = None if status is None else self.clock()
                return None
            reason = f"it ended with status {status} and without results"
            return self.fail(job, EvaluationFailed(ErrorClass.HARNESS_ERROR, reason))
        # A harness that was killed for its memory looks like one that broke; accounting knows
        if failure is not None and failure.error_class is not ErrorClass.HARNESS_ERROR:
            return Ended(failure, self._worth_retrying(job, failure.error_class))
        if job.job_id in queue:
            job.ended_since = None
            if job.without_lease:  # it was only out of sight: the reconciler leases where there is no file
                job.without_lease = False
                for file in lease_files(self.run, *job.pair):
                    file.unlink(missing_ok=True)
        elif job.ended_since is None:
            job.ended_since = self.clock()
        return None

    def _unreadable(self, job: EvaluationJob, error: Exception) -> Ended | None:
        """Of an evaluation whose files cannot be read: file systems may be away for minutes."""
        job.unreadable_since = job.unreadable_since or self.clock()
        if self.clock() - job.unreadable_since < UNKNOWN_S:
            return None
        failure = EvaluationFailed(ErrorClass.BAD_RESULT, f"its files cannot be read: {error}")
        self.note(*job.pair, failure)
        return Ended(failure)

    def _recorded(self, job: EvaluationJob) -> EvaluationFailed | None:
        """The failure that an evaluation has put on record itself."""
        file = self.paths.failure(*job.pair)
        if failed_attempts(file) <= job.failures:
            return None
        known = load(file, FailureRecord)
        return EvaluationFailed(known.error_class or ErrorClass.HARNESS_ERROR, known.reason or "")

    def _asked(self, jobs: list[EvaluationJob]) -> dict[tuple[str, str], Ended]:
        """What Slurm says of jobs that left the queue, without a word or with one that it may better."""
        known = self._ends.of([job.job_id for job in jobs])
        ended = {}
        for job in jobs:
            assert job.ended_since is not None
            job_run = known.get(job.job_id)
            waited_s = self.clock() - job.ended_since
            if (job_run is None or job_run.ended is None) and waited_s < self._accounting_wait_s:
                # Accounting lags behind, or the job is requeued at this moment. No GPU waits for the verdict
                if job_run is None and waited_s >= FILES_S and self._is_silent(job):
                    job.without_lease = True
                    release(self.run, *job.pair)
                continue
            if waited_s < FILES_S and not (job_run and (job_run.error_class or job_run.failed)):
                continue
            recorded = self._recorded(job)
            if recorded is not None and not (job_run and job_run.error_class is ErrorClass.OUT_OF_MEMORY):
                ended[job.pair] = Ended(recorded, self._worth_retrying(job, recorded.error_class))
            else:
                ended[job.pair] = self._died(job, job_run)
        return ended

    def _is_silent(self, job: EvaluationJob) -> bool:
        """Whether nothing runs the evaluation, as far as its heartbeats tell."""
        return live_owner(self.run.lock_file(*job.pair)) is None

    @property
    def _accounting_wait_s(self) -> float:
        return FILES_S if self._ends.no_accounting else UNKNOWN_S

    def _died(self, job: EvaluationJob, job_run: commands.JobRun | None) -> Ended:
        if job_run is None or job_run.ended is None:
            error_class = ErrorClass.NODE_FAILURE
            why = "there is no accounting here" if self._ends.no_accounting else "accounting does not say how"
            reason = f"job {job.job_id} left the queue, and {why}"
        else:
            error_class = job_run.error_class or ErrorClass.HARNESS_ERROR
            where = f" on {job_run.nodes}" if job_run.nodes else ""
            reason = f"job {job.job_id} ended{where} without a word; Slurm says {job_run.state}"
            if job_run.error_class is None and (words := last_words(self._logs(job))):
                reason = f"job {job.job_id} ended{where}; its last words: {words}"
            elif job_run.failed:
                reason = f"{reason}: is {self.run.project} there, under this name, for jobs (docs/sites.md)?"
        failure = EvaluationFailed(error_class, reason)
        return self.fail(job, failure)

    def fail(self, job: EvaluationJob, failure: EvaluationFailed) -> Ended:
        """Records a failure on the evaluation's behalf: it cannot do it itself."""
        self.run.lock_file(*job.pair).unlink(missing_ok=True)
        release(self.run, *job.pair)
        logs = self._logs(job)
        log = str(logs[0].relative_to(self.paths.results)) if logs else None
        file = self.paths.failure(*job.pair)
        record(file, failure, *job.pair, datetime.now(UTC), log)
        return Ended(failure, self._worth_retrying(job, failure.error_class))

    def _logs(self, job: EvaluationJob) -> list[Path]:
        """What its job has written."""
        log = self.paths.log("evaluate", job.model, f"{job.benchmark}-{job.job_id}")
        return [log] if log.exists() else []

    def _worth_retrying(self, job: EvaluationJob, error_class: ErrorClass) -> bool:
        """Whether another try may end otherwise.

        One that ran out of time has another chance if it came on: what was answered is not asked
        again.
        """
        if error_class is ErrorClass.OUT_OF_MEMORY:
            self._out_of_memory[job.pair] = self._out_of_memory.get(job.pair, 0) + 1
        if error_class is ErrorClass.TIME_LIMIT:
            return self._answered(*job.pair) > job.answered
        return error_class in RETRIED

    def _answered(self, model: str, benchmark: str) -> int:
        """Requests that the model has answered, in all tries."""
        progress = read(self.run.work(model, benchmark) / "gateway" / "progress.json", GatewayProgress)
        return progress.answered_by_model if progress else 0

    def forget(self, job: EvaluationJob) -> None:
        """Once Snakemake knows of its success. What cannot be removed now is removed by the next run."""
        with contextlib.suppress(OSError):
            finished.forget(self.run, *job.pair)

    def give_up(self, job: EvaluationJob, reason: str) -> Ended:
        """Fails one that will not start, for squeue's `reason`."""
        error_class = ErrorClass.NODE_FAILURE if launch_failed(reason) else ErrorClass.CANCELLED
        return self.fail(job, EvaluationFailed(error_class, f"job {job.job_id} will not start: {reason}"))

    def take_back(self, job: EvaluationJob) -> bool:
        """Takes one that has not begun out of the queue, to be submitted again; False where it is none."""
        if self.colocated_folder(*job.pair) is not None:
            return False
        self.cancel_waiting([job])
        release(self.run, *job.pair)
        self._left_over.forget()  # it may have begun just now: the next submission looks for it
        return True

    def cancel_waiting(self, jobs: Iterable[EvaluationJob]) -> None:
        """Takes those that have not begun out of the queue; the others run on."""
        waiting = list(jobs)
        for job in waiting:
            if (folder := self.colocated_folder(*job.pair)) is not None:
                colocated.take_back(folder, self.run.lease_name(*job.pair))
        ids = [job.job_id for job in waiting if self.colocated_folder(*job.pair) is None]
        if ids:
            try:
                commands.cancel(ids, only_pending=True)
            except SlurmevalError as error:
                print(f"slurmeval: {error}")
