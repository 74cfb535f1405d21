"""Runs one evaluation: gateway, harness, checks, results; and says why when it does not end well."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slurmeval import __version__
from slurmeval.config.models import Benchmark, Config
from slurmeval.errors import ErrorClass, EvaluationFailed, ServerFailed, SlurmevalError
from slurmeval.evaluations import provenance
from slurmeval.evaluations.failures import failed_attempts, no_server, record
from slurmeval.evaluations.leasing import lease
from slurmeval.files import read_json, sha256_of_json, write_json
from slurmeval.gateway import log as gateway_log
from slurmeval.gateway.process import GatewayProcess
from slurmeval.gateway.process import start as start_gateway
from slurmeval.gateway.settings import GatewayConfig
from slurmeval.harnesses import harness
from slurmeval.harnesses.base import Harness, HarnessOutput, Job
from slurmeval.ownership import Claim, live_owner
from slurmeval.paths import Paths
from slurmeval.results import evaluation as results
from slurmeval.results import partitions
from slurmeval.servers import leases
from slurmeval.servers.folder import ServerFolder

POLL_S = 0.25
"""Between two looks at the harness."""

STATE_POLL_S = 2.0
"""Between two looks at the run, the gateway and the server."""

OWNER_STOPS_S = 60.0
"""How long an evaluation of a dead run may take to notice."""

STOP_S = 10.0
"""How long a harness may take to end after SIGTERM."""


@dataclass
class Evaluation:
    """One benchmark on one model, as the run document describes it."""

    run: dict[str, Any]
    model: str
    benchmark_id: str
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self.paths = Paths.of(self.run["paths"])
        self.config = Config.model_validate(self.run["config"])
        self.benchmark: Benchmark = self.config.benchmarks[self.benchmark_id]
        self.answers_key: str = self.run["models"][self.model]["answers_key"]
        self.work = self.paths.work(self.model, self.benchmark_id, self.answers_key)
        self.lease = self.paths.lease(self.model, self.benchmark_id)
        self.harness_log = self.work / "harness.log"
        self.attempt = 1 + failed_attempts(self.paths.failure(self.model, self.benchmark_id))

    def phase(self, name: str) -> None:
        """Tells `slurmeval status` how far this is."""
        limit, chat = self.benchmark.limit, self.benchmark.endpoint == "chat"
        write_json(
            self.work / "progress.json",
            {
                "phase": name,
                "samples_expected": limit and limit * self.benchmark.repeats,
                # a multiple choice by log-probabilities takes a request for each choice
                "requests_expected": limit * self.benchmark.repeats if limit and chat else None,
                "started_at": self.started_at.isoformat(),
            },
        )


def evaluate(run: dict[str, Any], model: str, benchmark: str) -> int:
    """Runs it to the end; returns the number of samples. Raises EvaluationFailed, after writing the failure's
    record and giving the lease back."""
    evaluation = Evaluation(run, model, benchmark)
    evaluation.work.mkdir(parents=True, exist_ok=True)
    with _terminated_as_cancelled():
        try:
            samples = _run_alone(evaluation)
        except Exception as error:
            failure = _as_failure(error)
            log = str(evaluation.harness_log.relative_to(evaluation.paths.results))
            record(
                evaluation.paths.failure(model, benchmark),
                failure,
                model,
                benchmark,
                evaluation.started_at,
                log,
            )
            evaluation.phase("failed")
            leases.release(evaluation.lease)
            raise failure from error
        evaluation.paths.failure(model, benchmark).unlink(missing_ok=True)
        return samples


def _as_failure(error: Exception) -> EvaluationFailed:
    """Whatever ends an evaluation has a class and stands in the report, a fault of our own too."""
    if isinstance(error, EvaluationFailed):
        return error
    if isinstance(error, SlurmevalError):
        return EvaluationFailed(ErrorClass.HARNESS_ERROR, str(error))
    traceback.print_exception(error)
    return EvaluationFailed(ErrorClass.HARNESS_ERROR, f"{type(error).__name__}: {error}")


def _run_alone(evaluation: Evaluation) -> int:
    """An evaluation of a dead run notices within seconds and stops; so long its successor waits for it."""
    claim = Claim(evaluation.work / "owner.json")
    owner = claim.wait(OWNER_STOPS_S)
    if owner is not None:
        who = f"process {owner['pid']} on {owner['host']}"
        raise EvaluationFailed(ErrorClass.CANCELLED, f"{who} still runs this evaluation")
    try:
        return _run(evaluation)
    finally:
        claim.release()


def _run(evaluation: Evaluation) -> int:
    program = harness(evaluation.benchmark.harness)
    evaluation.phase("waiting for the server")
    _take_lease(evaluation)
    gateway = start_gateway(_gateway_config(evaluation), evaluation.work)
    try:
        _wait_for_server(evaluation, gateway)
        evaluation.phase("running")
        job = _job(evaluation, gateway)
        command = program.prepare(job)
        returncode = _supervise(evaluation, command.argv, command.env, command.cwd, gateway)
    finally:
        gateway.stop()
    evaluation.phase("scoring")
    output = _read(program, job, returncode, evaluation.harness_log)
    partitions.write(
        evaluation.paths,
        evaluation.model,
        evaluation.benchmark_id,
        _pins(evaluation),
        output,
        gateway_log.read(evaluation.work / "gateway"),
    )
    evaluation.phase("done")
    return len(output.samples)


def _take_lease(evaluation: Evaluation) -> None:
    """Takes the lease up again where it has ended: after a retry, a dead run, or a server that is gone."""
    try:
        lease(evaluation.run, evaluation.model, evaluation.benchmark_id)
    except ServerFailed as failure:
        raise no_server(failure) from failure


def _wait_for_server(evaluation: Evaluation, gateway: GatewayProcess) -> None:
    """Harnesses probe the server as they start, with time-outs of their own (NeMo Evaluator: 30 s), so they
    start once it answers. The server's own deadline bounds the wait."""
    next_look = 0.0
    while not _server_answers(evaluation):
        if time.monotonic() >= next_look:
            _check_surroundings(evaluation, gateway)
            next_look = time.monotonic() + STATE_POLL_S
        time.sleep(POLL_S)


def _server_answers(evaluation: Evaluation) -> bool:
    held = read_json(evaluation.lease)
    return held is not None and ServerFolder(held["server"]).endpoint.exists()


def _gateway_config(evaluation: Evaluation) -> GatewayConfig:
    settings = evaluation.config.gateway
    return GatewayConfig(
        lease=evaluation.lease,
        log=evaluation.work / "gateway",
        ready_file=evaluation.work / "gateway-ready.json",
        model=evaluation.model,
        max_in_flight=settings.max_in_flight,
        hold_s=settings.hold_s,
        retries=settings.retries,
        request_timeout_s=evaluation.benchmark.request_timeout_s,
    )


def _job(evaluation: Evaluation, gateway: GatewayProcess) -> Job:
    environment = read_json(Path(evaluation.run["benchmarks"][evaluation.benchmark_id]["environment"]))
    manifests = {name: evaluation.paths.staged_dataset(name) for name in evaluation.benchmark.datasets}
    task_file = evaluation.benchmark.task_file
    return Job(
        model=evaluation.model,
        benchmark_id=evaluation.benchmark_id,
        benchmark=evaluation.benchmark,
        environment=Path(environment["folder"]),
        folder=evaluation.work / "harness",
        base_url=gateway.url,
        api_key=gateway.api_key,
        served_name=evaluation.model,
        tokenizer=Path(read_json(evaluation.paths.staged_model(evaluation.model))["folder"]),
        datasets={name: Path(read_json(path)["folder"]) for name, path in manifests.items()},
        task_file=Path(evaluation.run["project"]) / task_file if task_file else None,
    )


def _supervise(
    evaluation: Evaluation, argv: list[str], env: dict[str, str], cwd: Path, gateway: GatewayProcess
) -> int:
    """Runs the harness until it ends, or until something says that it cannot end well."""
    deadline = time.monotonic() + evaluation.benchmark.time_limit_min * 60
    next_look = time.monotonic() + STATE_POLL_S
    with evaluation.harness_log.open("wb") as log:
        process = subprocess.Popen(
            argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        while process.poll() is None:
            if time.monotonic() >= deadline:
                limit = f"{evaluation.benchmark.time_limit_min:g} min"
                raise EvaluationFailed(ErrorClass.TIME_LIMIT, f"not done within time_limit_min ({limit})")
            if time.monotonic() >= next_look:
                _check_surroundings(evaluation, gateway)
                next_look = time.monotonic() + STATE_POLL_S
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_S)
        return process.returncode
    finally:
        _end_group(process)


def _check_surroundings(evaluation: Evaluation, gateway: GatewayProcess) -> None:
    """The gateway lives, the run lives, and the server is there or on its way back. Else raises."""
    if (reason := gateway.failure()) is not None:
        raise EvaluationFailed(ErrorClass.HARNESS_ERROR, reason)
    if live_owner(evaluation.paths.controller) is None:
        raise EvaluationFailed(ErrorClass.CANCELLED, "the run that started this evaluation is gone")
    _take_lease(evaluation)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends whatever is left of the harness: its children too, which may outlive it."""
    for sign, patience_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    process.wait()


def _read(program: Harness, job: Job, returncode: int, log: Path) -> HarnessOutput:
    """What the harness wrote, if all signs say that it ended well and it holds every sample."""
    program.check(job, returncode, log)
    output = program.read(job)
    if not output.metrics:
        raise EvaluationFailed(ErrorClass.BAD_RESULT, "the harness ended well, but wrote no score")
    return output


def _pins(evaluation: Evaluation) -> results.Evaluation:
    """By what the evaluation can be repeated."""
    benchmark = evaluation.benchmark
    model = read_json(evaluation.paths.staged_model(evaluation.model))
    datasets = {name: read_json(evaluation.paths.staged_dataset(name)) for name in benchmark.datasets}
    commit, dirty = provenance.commit(Path(evaluation.run["project"]))
    return results.Evaluation(
        attempt=evaluation.attempt,
        started_at=evaluation.started_at,
        ended_at=datetime.now(UTC),
        harness=benchmark.harness,
        task=benchmark.task,
        endpoint=benchmark.endpoint,
        log=str(evaluation.harness_log),
        versions=evaluation.run["benchmarks"][evaluation.benchmark_id]["versions"],
        environment_sha256=evaluation.run["benchmarks"][evaluation.benchmark_id]["environment_sha256"],
        task_sha256=provenance.file_sha256(evaluation.run, benchmark.task_file),
        datasets=[
            {"id": name, "revision": data["revision"], "sha256": provenance.manifest_sha256(data)}
            for name, data in datasets.items()
        ],
        model_source=provenance.source_text(model["source"]),
        model_revision=model["revision"],
        model_sha256=provenance.manifest_sha256(model),
        served=evaluation.run["models"][evaluation.model]["params"],
        answers_key=evaluation.answers_key,
        few_shot=benchmark.few_shot,
        limit=benchmark.limit,
        n_repeats=benchmark.repeats,
        temperature=benchmark.temperature,
        top_p=benchmark.top_p,
        max_tokens=benchmark.max_tokens,
        parameters=benchmark.extra,
        slurmeval_version=__version__,
        workflow_commit=commit,
        workflow_dirty=dirty,
        config_sha256=sha256_of_json(evaluation.run["config"]),
    )


@contextlib.contextmanager
def _terminated_as_cancelled() -> Iterator[None]:
    """SIGTERM and SIGINT become an EvaluationFailed of class cancelled, so that all is put in order."""

    def cancel(signum: int, _frame: object) -> None:
        raise EvaluationFailed(ErrorClass.CANCELLED, f"stopped by {signal.Signals(signum).name}")

    before = {signum: signal.signal(signum, cancel) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
