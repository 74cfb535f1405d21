"""Runs one evaluation: gateway, harness, checks, results; and says why when it does not end well."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from slurmeval import secrets
from slurmeval.config.of_run import config_of
from slurmeval.containment.scratch_dir import ScratchDir, scratch_dir
from slurmeval.errors import ErrorClass, EvaluationFailed, ServerFailed, SlurmevalError
from slurmeval.evaluation.reading import read_output, refusals_named
from slurmeval.evaluation.runtimes import runtime_of
from slurmeval.evaluation.stopping import ended_by_signals
from slurmeval.evaluation.writing import pins, write_partition
from slurmeval.files import read_json, write_json
from slurmeval.gateway.process import GatewayProcess
from slurmeval.gateway.process import start as start_gateway
from slurmeval.gateway.settings import GatewayConfig
from slurmeval.harnesses import cuts, harness, harness_process
from slurmeval.harnesses.base import Command, Job
from slurmeval.harnesses.context import context_length
from slurmeval.harnesses.prompts import no_room
from slurmeval.ownership import LockFile, live_owner
from slurmeval.processes import raise_open_files
from slurmeval.results.partitions import evaluation_row
from slurmeval.scheduling import finished, leasing, replicas
from slurmeval.scheduling.failures import failed_attempts, no_server, record
from slurmeval.servers.folder import ServerFolder
from slurmeval.slurm.own_job import own_job
from slurmeval.state.evaluation import EvaluationProgress
from slurmeval.state.manifest import Manifest
from slurmeval.state.owner import Owner
from slurmeval.state.records import load, read, write
from slurmeval.state.run_document import RunDocument
from slurmeval.state.server import ServerState, ServerStatus

POLL_S = 0.25
"""Between two looks at the harness."""
STATE_POLL_S = 2.0
"""Between two looks at the run, the gateway and the server."""
CONTEXT = "context.json"
"""In an evaluation's work folder: what its server said of the context, where the model's files do not."""

OWNER_STOPS_S = 90.0
"""How long an evaluation of a dead run may take to notice, or one of a dead node to count as dead."""

OUT_OF_REACH_S = 300.0
"""How long a server that says it answers may be out of reach: networks fail for minutes."""

FULL_BYTES = 1 << 20
"""Free space below which a file system counts as full."""


@dataclass
class Evaluation:
    """One benchmark on one model, as the run document describes it."""

    run: RunDocument
    model: str
    benchmark_id: str
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    out_of_reach_since: float | None = None

    def __post_init__(self) -> None:
        self.paths = self.run.paths
        self.config = config_of(self.run)
        self.server = self.run.server_of(self.model, self.benchmark_id)
        self.judged = self.config.judged(self.model, self.benchmark_id)
        self.planned_model = self.run.models[self.server]
        self.planned_benchmark = self.run.benchmarks[self.benchmark_id]
        entry = self.config.benchmarks[self.benchmark_id]
        self.shares_seats = entry.parallelism is None
        self.parallelism = entry.parallelism or self.planned_model.parallelism
        self.benchmark = entry.model_copy(update={"parallelism": self.parallelism})
        self.work = self.run.work(self.model, self.benchmark_id)
        self.model_entry = self.config.models[self.server]
        self.leases = replicas.lease_files(self.run, self.model, self.benchmark_id)
        self.on_cluster = self.run.site is not None
        self.harness_log = self.work / "harness.log"
        self.answered_before = finished.all_answered(self.run, self.model, self.benchmark_id)
        self.attempt = 1 + failed_attempts(self.paths.failure(self.model, self.benchmark_id))

    @cached_property
    def context(self) -> int | None:
        """Tokens that the model holds, as its files say, or its server said."""
        folder = load(self.planned_model.manifest, Manifest).folder
        told = context_length(folder, self.model_entry.max_model_len)
        return told or read_json(self.work / CONTEXT)

    def phase(self, name: str) -> None:
        """Tells `slurmeval status` how far this is."""
        samples, chat = self.benchmark.samples_expected, self.benchmark.endpoint == "chat"
        progress = EvaluationProgress(
            phase=name,
            samples_expected=samples,
            # a multiple choice by log-probabilities takes a request for each choice
            requests_expected=samples if chat else None,
            started_at=self.started_at.isoformat(),
        )
        write(self.work / "progress.json", progress)


def evaluate(run: RunDocument, model: str, benchmark: str) -> int:
    """Runs it to the end; returns the number of samples.

    Raises EvaluationFailed, after writing the failure's record and giving the lease back.
    """
    evaluation = Evaluation(run, model, benchmark)
    raise_open_files()  # a harness holds a connection for each request
    evaluation.work.mkdir(parents=True, exist_ok=True)
    if evaluation.benchmark.secrets:
        secrets.make_private(evaluation.work)
    with ended_by_signals(evaluation.on_cluster):
        try:
            samples = _run_alone(evaluation)
        except Exception as error:
            failure = _as_failure(error, evaluation.work)
            log = str(evaluation.harness_log.relative_to(evaluation.paths.results))
            file = evaluation.paths.failure(model, benchmark)
            record(file, failure, model, benchmark, evaluation.started_at, log)
            evaluation.phase("failed")
            leasing.release(run, model, benchmark)
            raise failure from error
        evaluation.paths.failure(model, benchmark).unlink(missing_ok=True)
        return samples


def _as_failure(error: Exception, work: Path) -> EvaluationFailed:
    """Whatever ends an evaluation has a class, our own faults too. On a full disk it often says another."""
    if shutil.disk_usage(work).free < FULL_BYTES and "space" not in str(error):
        error_class = error.error_class if isinstance(error, EvaluationFailed) else ErrorClass.HARNESS_ERROR
        return EvaluationFailed(error_class, f"no space is left in {work}: {error}")
    if isinstance(error, EvaluationFailed):
        return error
    if isinstance(error, SlurmevalError):
        return EvaluationFailed(ErrorClass.HARNESS_ERROR, str(error))
    traceback.print_exception(error)
    return EvaluationFailed(ErrorClass.HARNESS_ERROR, f"{type(error).__name__}: {error}")


def _run_alone(evaluation: Evaluation) -> int:
    """Holds the evaluation's lock file: one process at a time evaluates.

    Another of a dead run or a dead node is waited for until it has stopped, or counts as dead.
    """
    lock_file = LockFile(evaluation.run.lock_file(evaluation.model, evaluation.benchmark_id))
    job_id = own_job().job_id if evaluation.on_cluster else None
    if job_id is not None and (was := read(lock_file.path, Owner)) and was.job_id == job_id:
        lock_file.path.unlink()  # this very job, before it was requeued
    owner = lock_file.wait(OWNER_STOPS_S, job_id=job_id)
    if owner is not None:
        raise EvaluationFailed(ErrorClass.CANCELLED, f"{owner} still runs this evaluation")
    try:
        return _run(evaluation)
    finally:
        lock_file.release()


def _run(evaluation: Evaluation) -> int:
    names = evaluation.run, evaluation.model, evaluation.benchmark_id
    if finished.is_there(*names):
        evaluation.phase("done")
        return finished.publish(*names)
    program = harness(evaluation.benchmark.harness)
    early = evaluation.context is not None and program.starts_early(evaluation.benchmark)
    for problem in no_room(evaluation.benchmark, evaluation.context):
        raise EvaluationFailed(ErrorClass.HARNESS_ERROR, problem)
    evaluation.phase("waiting for the server")
    if not evaluation.answered_before:
        _take_lease(evaluation)
    with scratch_dir() as place:
        gateway = start_gateway(gateway_config(evaluation, place), evaluation.work)
        try:
            _wait_for_server(evaluation, gateway, early)
            evaluation.phase("running")
            if evaluation.context is None and (context := gateway.context()) is not None:
                write_json(evaluation.work / CONTEXT, context)
                evaluation.context = context
            job = job_of(evaluation, gateway.url, gateway.api_key)
            command = program.prepare(job)
            returncode = _supervise(evaluation, job, command, gateway, place)
            _raise_failure(gateway, returncode)
            leasing.release(*names)  # scoring and writing need no server
            if returncode == 0:
                cuts.count(program, job, command, place, gateway.port, evaluation.work / cuts.LOG)
        finally:
            gateway.stop()
    evaluation.phase("scoring")
    with refusals_named(evaluation.work / "gateway"):
        output = read_output(program, job, returncode, evaluation.harness_log)
    evaluation.paths.evaluation(evaluation.model, evaluation.benchmark_id).unlink(missing_ok=True)
    write_partition(evaluation, pins(evaluation), output)
    if not evaluation_row(evaluation.paths.evaluation(*names[1:])).get("n_unanswered"):
        finished.note_answered(*names)
    if evaluation.on_cluster:
        finished.keep(*names)
    evaluation.phase("done")
    return len(output.samples)


def _take_lease(evaluation: Evaluation) -> None:
    """Takes the lease up again where it has ended: after a retry, a dead run, or a server that is gone.

    On a cluster the controller does, as long as there is one: nodes may not submit jobs everywhere.
    """
    names = evaluation.run, evaluation.model, evaluation.benchmark_id
    try:
        if not evaluation.on_cluster:
            leasing.lease(*names)
        elif not leasing.check(*names) and live_owner(evaluation.paths.controller) is None:
            reason = "the run that started this evaluation is gone, and so is its server"
            raise EvaluationFailed(ErrorClass.CANCELLED, reason)
    except ServerFailed as failure:
        raise no_server(failure) from failure


def _raise_failure(gateway: GatewayProcess, returncode: int) -> None:
    """A harness that got errors may end in any way (bfcl: with status 0); the gateway knows better."""
    failed = gateway.failure() or (gateway.failing() if returncode != 0 else None)
    if failed is not None:
        raise failed


def _wait_for_server(evaluation: Evaluation, gateway: GatewayProcess, early: bool) -> None:
    """Waits until the server answers, or, `early`, until it loads the model.

    A harness that is warm by then asks at once. Not before: it holds memory. The server bounds the wait.
    """
    next_look = 0.0
    while not (evaluation.answered_before or _server_answers(evaluation, early)):
        if time.monotonic() >= next_look:
            _check_surroundings(evaluation, gateway)
            next_look = time.monotonic() + STATE_POLL_S
        time.sleep(POLL_S)


def _server_answers(evaluation: Evaluation, or_starts: bool = False) -> bool:
    """Whether a server answers, or, `or_starts`, loads the model. Not while files are away."""
    with contextlib.suppress(OSError):
        for lease in replicas.held(evaluation.run, evaluation.model, evaluation.benchmark_id):
            server = ServerFolder(lease.server or "")
            if server.endpoint.exists():
                return True
            state = read(server.state, ServerState)
            if or_starts and state is not None and state.status is ServerStatus.STARTING:
                return True
    return False


def gateway_config(evaluation: Evaluation, place: ScratchDir) -> GatewayConfig:
    """Returns the settings of the evaluation's gateway."""
    settings, model = evaluation.config.gateway, evaluation.model_entry
    return GatewayConfig(
        leases=evaluation.leases,
        log=evaluation.work / "gateway",
        ready_file=evaluation.work / "gateway-ready.json",
        model=evaluation.server,
        max_in_flight=min(settings.max_in_flight, evaluation.parallelism),
        seats=evaluation.planned_model.seats if evaluation.shares_seats else None,
        hold_s=settings.hold_s,
        retries=settings.retries,
        request_timeout_s=evaluation.benchmark.request_timeout_s,
        max_tokens=model.generation.max_new_tokens,
        reasons=model.reasoning is not None,
        thoughts=None if model.reasoning is None else model.reasoning.tags,
        blank_refused=harness(evaluation.benchmark.harness).dies_of_refusals(evaluation.benchmark),
        noise_audit=settings.noise_audit,
        socket=place.socket,
    )


def job_of(evaluation: Evaluation, url: str, api_key: str) -> Job:
    """The evaluation as its harness sees it, behind a gateway."""
    prepared = load(evaluation.planned_benchmark.rehearsal, Manifest).folder
    manifests = {name: evaluation.run.datasets[name] for name in evaluation.benchmark.datasets}
    task_file, template = evaluation.benchmark.task_file, evaluation.model_entry.chat_template
    project = evaluation.run.project
    return Job(
        model=evaluation.model,
        benchmark_id=evaluation.benchmark_id,
        benchmark=evaluation.benchmark,
        runtime=runtime_of(evaluation.run, evaluation.benchmark_id),
        folder=evaluation.work / "harness",
        base_url=url,
        api_key=api_key,
        served_name=evaluation.server,
        tokenizer=load(evaluation.planned_model.manifest, Manifest).folder,
        model_entry=evaluation.model_entry,
        chat_template=project / template if template else None,
        context=evaluation.context,
        datasets={name: load(path, Manifest).folder for name, path in manifests.items()},
        task_file=project / task_file if task_file else None,
        prepared=prepared if prepared.is_dir() else None,
        hub=evaluation.paths.hf_home / "hub" if prepared.is_dir() else None,
        secrets=secrets.take(evaluation.paths.secrets, evaluation.benchmark.secrets),
        judged={name: evaluation.paths.samples(*pair) for name, pair in evaluation.judged.items()},
        project=project,
    )


def _supervise(
    evaluation: Evaluation, job: Job, command: Command, gateway: GatewayProcess, place: ScratchDir
) -> int:
    """Runs the harness until it ends, or until something says that it cannot end well."""
    deadline = None
    next_look = time.monotonic() + STATE_POLL_S
    running = harness_process.start(job, command, place, gateway.port, evaluation.harness_log)
    try:
        while running.poll() is None:
            if deadline is None and (evaluation.answered_before or _server_answers(evaluation)):
                # loading is not the harness's time
                deadline = time.monotonic() + evaluation.planned_benchmark.time_limit_min * 60
            if deadline is not None and time.monotonic() >= deadline:
                limit = f"{evaluation.planned_benchmark.time_limit_min:g} min"
                raise EvaluationFailed(ErrorClass.TIME_LIMIT, f"not done within time_limit_min ({limit})")
            if time.monotonic() >= next_look:
                _check_surroundings(evaluation, gateway)
                next_look = time.monotonic() + STATE_POLL_S
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(POLL_S)
        return running.returncode
    finally:
        harness_process.end(running)
        secrets.scrub(evaluation.work, job.secrets)


def _check_surroundings(evaluation: Evaluation, gateway: GatewayProcess) -> None:
    """Raises unless the gateway and the run live, and the server is there or on its way back.

    Network file systems may be away for minutes: what cannot be looked at now is looked at again.
    """
    if (failed := gateway.failure()) is not None:
        raise failed
    with contextlib.suppress(OSError):
        _check_run(evaluation, gateway)


def _check_run(evaluation: Evaluation, gateway: GatewayProcess) -> None:
    if not evaluation.on_cluster and live_owner(evaluation.paths.controller) is None:
        raise EvaluationFailed(ErrorClass.STOPPED, "the run that started this evaluation is gone")
    _check_reach(evaluation, gateway)
    if evaluation.answered_before:
        _check_answers(evaluation, gateway)
    else:
        _take_lease(evaluation)


def _check_answers(evaluation: Evaluation, gateway: GatewayProcess) -> None:
    """Leases a server after all where an evaluation that was answered before has a request without answer.

    On a cluster the next run does, since only the controller submits jobs.
    """
    progress = gateway.progress()
    if progress is None or not progress.holding:
        return
    evaluation.answered_before = False
    finished.forget_answered(evaluation.run, evaluation.model, evaluation.benchmark_id)
    if evaluation.on_cluster:
        reason = "not all of its answers are stored after all: the next run starts a server"
        raise EvaluationFailed(ErrorClass.CANCELLED, reason)
    _take_lease(evaluation)


def _check_reach(evaluation: Evaluation, gateway: GatewayProcess) -> None:
    """A server that says it answers, and does not answer here, holds its GPUs for nothing."""
    progress = gateway.progress()
    here = socket.gethostname()
    if progress is None or progress.reaches or not _server_answers(evaluation):
        if evaluation.out_of_reach_since is not None:
            evaluation.phase("running")
        evaluation.out_of_reach_since = None
        return
    if evaluation.out_of_reach_since is None:
        evaluation.out_of_reach_since = time.monotonic()
        evaluation.phase(f"running, but {here} does not reach the server")
    if time.monotonic() - evaluation.out_of_reach_since > OUT_OF_REACH_S:
        seen = progress.away or "it is out of reach"
        reason = f"the server answers, but not to {here}: {seen}; ports may be closed (docs/sites.md)"
        raise EvaluationFailed(ErrorClass.SERVER_LOST, reason)
