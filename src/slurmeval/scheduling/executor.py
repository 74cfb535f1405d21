"""Snakemake's executor for Slurm clusters: evaluations become Slurm jobs, one each.

Two rules are not local. `evaluate` becomes the rule's own shell command in a Slurm job: no Snakemake on the
node. `lease` is done in this process: as a command it would be a process for each evaluation.
docs/design.md says why this is not Snakemake's own Slurm plugin.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator
from typing import Any

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from slurmeval.errors import ErrorClass, EvaluationFailed, NotYet
from slurmeval.scheduling import snakemake_compat
from slurmeval.scheduling.evaluation_jobs import Ended, EvaluationJob, SlurmJobs
from slurmeval.scheduling.failures import no_server, unforeseen
from slurmeval.scheduling.job_resources import request_of
from slurmeval.scheduling.leasing import lease_for_rule
from slurmeval.scheduling.pending_jobs import Pending
from slurmeval.scheduling.postponed import Waiting
from slurmeval.scheduling.reconciler import Reconciler
from slurmeval.scheduling.silent_servers import SilentServers
from slurmeval.scheduling.yielding import GivingWay
from slurmeval.slurm import commands
from slurmeval.slurm.commands import SlurmAway
from slurmeval.variables import OWN_PYTHON_LINE

PASSING = frozenset({errno.ESTALE, errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT})
"""What network file systems answer while they are away."""

COMMAND_PREFIX = f"set -euo pipefail; {OWN_PYTHON_LINE}; "
"""Begins the shell command of a job: a site's setup may load modules that set PYTHONPATH."""

LEASES = frozenset({"lease", "lease_judge"})
"""The rules that lease a server."""

TAKEN_BACK = Ended()
"""Of an evaluation whose job was taken out of the queue, to be submitted again later."""


class SlurmExecutor(RemoteExecutor):  # type: ignore[misc]
    """Submits evaluations, and tells Snakemake what became of them."""

    def __post_init__(self) -> None:
        self._run = snakemake_compat.run_of(self.workflow)
        self._jobs = SlurmJobs(self._run.plan.document)
        self._reconciler = Reconciler(self._run.plan.document)
        self._waiting = Waiting(self._say)
        self._pending = Pending("an evaluation", self._say)
        self._giving_way = GivingWay(self._run.plan.document, self._jobs.name, self._say)
        self._silent = SilentServers(self._jobs.paths)
        self._away = False

    def run_jobs(self, jobs: list[Any]) -> None:
        """Those first that are to be first: Slurm mostly starts jobs in the order of submission."""
        super().run_jobs(self._run.precedence.longest_first(jobs))

    def run_job(self, job: Any) -> None:
        """Does it, submits it, or keeps it for later.

        Snakemake ends a run whose executor raises, so whatever goes wrong is a failure of this one
        evaluation.
        """
        model, benchmark = job.wildcards.model, job.wildcards.benchmark
        server = self._run.plan.document.server_of(model, benchmark)
        room_is_kept = self._reconciler.wants_room and job.rule.name == "evaluate"
        if self._waiting.holds_back or room_is_kept or self._giving_way.rests(server):
            self._waiting.jobs.append(job)
            return
        try:
            if (failure := self._giving_way.hopeless.get(server)) is not None:
                self._jobs.note(model, benchmark, failure)
                raise failure
            if job.rule.name in LEASES:
                lease_for_rule(self._run.plan.document, model, benchmark)
                self.report_job_success(SubmittedJobInfo(job))
            else:
                self._submit(job, model, benchmark)
            self._waiting.submitted()
        except NotYet as error:
            if (given_up := self._waiting.refused(job, error)) is not None:
                self._jobs.note(model, benchmark, given_up)
                self._report_failure(SubmittedJobInfo(job), Ended(given_up))
        except EvaluationFailed as error:  # on record
            self._report_failure(SubmittedJobInfo(job), Ended(error))
        except Exception as error:  # noqa: BLE001
            if _passes(error):
                self._say_away(error)
                self._waiting.jobs.append(job)
                return
            failure = unforeseen(error)
            self._jobs.note(model, benchmark, failure)
            self._report_failure(SubmittedJobInfo(job), Ended(failure))

    def _submit(self, job: Any, model: str, benchmark: str) -> None:
        request = request_of(self._jobs.site, dict(job.resources.items()), job.threads)
        submitted = self._jobs.submit(model, benchmark, COMMAND_PREFIX + job.shellcmd, request)
        if submitted is None:
            self._waiting.jobs.append(job)  # its server has not begun, and nothing may depend on its job
            return
        job_info = SubmittedJobInfo(job, submitted.job_id, {"evaluation": submitted})
        self.logger.info(f"{model} on {benchmark}: Slurm job {submitted.job_id}")
        self.report_job_submission(job_info)

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """One look at the queue, at the servers and at the evaluations. Yields those that go on."""
        self.next_seconds_between_status_checks = self._jobs.site.poll_s
        if active_jobs:
            self._waiting.goes_on()
        try:
            queue = {job.job_id: job for job in commands.queue()}
            if self._away:
                self._away = False
                self.logger.info("Slurm answers again")
            self._silent.look(queue)
            ended = self._look(active_jobs, queue)
        except Exception as error:  # noqa: BLE001 - Snakemake ends a run whose executor raises
            self._say_away(error)
            ended = {}
        for job_info in active_jobs:
            outcome = ended.get(job_info.aux["evaluation"].pair)
            if outcome is None:
                yield job_info
            elif outcome is TAKEN_BACK:
                self._waiting.jobs.append(job_info.job)
            elif outcome.failure is None:
                self.report_job_success(job_info)
                self._jobs.forget(job_info.aux["evaluation"])
            else:
                self._report_failure(job_info, outcome)
        if snakemake_compat.was_told_to_stop(self.workflow):
            jobs, self._waiting.jobs = self._waiting.jobs, []
            for job in jobs:
                failure = EvaluationFailed(ErrorClass.STOPPED, "the run was told to stop")
                self._report_failure(SubmittedJobInfo(job), Ended(failure))
            return
        for job in self._waiting.due(self._has_server):
            self.run_job(job)

    def _has_server(self, job: Any) -> bool:
        """Returns whether a job is an evaluation whose server is up.

        Under a limit, those that need no further server come first.
        """
        if job.rule.name != "evaluate":
            return False
        document = self._run.plan.document
        return self._jobs.has_server(document.server_of(job.wildcards.model, job.wildcards.benchmark))

    def _look(
        self, active: list[SubmittedJobInfo], queue: dict[str, commands.QueuedJob]
    ) -> dict[tuple[str, str], Ended]:
        jobs: list[EvaluationJob] = [job_info.aux["evaluation"] for job_info in active]
        ended = self._jobs.look(jobs, queue)
        going_on = {job.pair: job for job in jobs if job.pair not in ended}
        if snakemake_compat.was_told_to_stop(
            self.workflow
        ):  # SIGTERM: Snakemake waits for what it has submitted
            stop = EvaluationFailed(ErrorClass.STOPPED, "the run was told to stop")
            waiting = [job for job in going_on.values() if _waits(job, queue)]
            self._jobs.cancel_waiting(waiting)
            ended |= {job.pair: self._jobs.fail(job, stop) for job in waiting}
            return ended
        deferred = [
            (job.wildcards.model, job.wildcards.benchmark)
            for job in self._waiting.jobs
            if job.rule.name == "evaluate"
        ]
        for pair, error in self._reconciler.look([*going_on, *deferred], queue).items():
            if pair not in going_on:
                continue  # its next try to be submitted says the same
            # One that runs finds out by itself; one that waits need not start to
            if _waits(going_on[pair], queue):
                ended[pair] = self._jobs.fail(going_on[pair], no_server(error))
                self._jobs.cancel_waiting([going_on[pair]])
        waiting = [job for pair, job in going_on.items() if pair not in ended and _waits(job, queue)]
        ended |= self._without_hope(waiting, queue)
        going_on = {pair: job for pair, job in going_on.items() if pair not in ended}
        ended |= self._taken_back(list(going_on.values()), queue)
        return ended

    def _without_hope(
        self, waiting: list[EvaluationJob], queue: dict[str, commands.QueuedJob]
    ) -> dict[tuple[str, str], Ended]:
        """Fails those that will not start, and takes them out of the queue."""
        hopeless = self._pending.look([job.job_id for job in waiting], queue)
        given_up = [job for job in waiting if job.job_id in hopeless]
        self._jobs.cancel_waiting(given_up)
        return {job.pair: self._jobs.give_up(job, hopeless[job.job_id]) for job in given_up}

    def _taken_back(
        self, jobs: list[EvaluationJob], queue: dict[str, commands.QueuedJob]
    ) -> dict[tuple[str, str], Ended]:
        """Takes waiting evaluations out of the queue, where they and a server stand in each other's way."""
        by_model: dict[str, list[EvaluationJob]] = {}
        for job in jobs:
            by_model.setdefault(self._run.plan.document.server_of(*job.pair), []).append(job)
        ids = {model: [job.job_id for job in of_model] for model, of_model in by_model.items()}
        if (given_way := self._giving_way.look(ids, queue)) is not None:
            model, failure = given_way
            if failure is not None:
                self._jobs.cancel_waiting(by_model[model])
                return {job.pair: self._jobs.fail(job, failure) for job in by_model[model]}
            return {job.pair: TAKEN_BACK for job in by_model[model] if self._jobs.take_back(job)}
        if self._reconciler.was_refused:
            waiting = [job for job in jobs if _waits(job, queue)]
            return {job.pair: TAKEN_BACK for job in waiting[-1:] if self._jobs.take_back(job)}
        return {}

    def _report_failure(self, job_info: SubmittedJobInfo, outcome: Ended) -> None:
        job, failure = job_info.job, outcome.failure
        assert failure is not None
        if not outcome.retry:
            snakemake_compat.forgo_retries(job)
        what = f"{job.wildcards.model} on {job.wildcards.benchmark}"
        self.report_job_error(job_info, msg=f"{what}: {failure.error_class}: {failure.reason}. ")

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Ctrl-C: evaluations that have begun go on to their end, and the next run finds them finished."""
        self._jobs.cancel_waiting([job_info.aux["evaluation"] for job_info in active_jobs])

    def _say(self, words: str) -> None:
        self.logger.info(f"slurmeval: {words}")

    def _say_away(self, error: Exception) -> None:
        if not self._away:
            self._away = True
            if isinstance(error, SlurmAway):
                what = f"Slurm does not answer, trying again: {error}"
            elif isinstance(error, OSError):
                what = f"a file cannot be read, trying again: {error}"
            else:
                what = f"trying again after a fault: {unforeseen(error).reason}"
            self.logger.warning(what)


def _passes(error: Exception) -> bool:
    """Whether the same may go well in a moment."""
    return isinstance(error, SlurmAway) or (isinstance(error, OSError) and error.errno in PASSING)


def _waits(job: EvaluationJob, queue: dict[str, commands.QueuedJob]) -> bool:
    """Whether it has not begun."""
    queued = queue.get(job.job_id)
    return queued is not None and queued.is_pending
