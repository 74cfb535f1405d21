"""Writes the partitions of evaluations anew from what is on disk: no server starts, no model is asked.

What the harness left is read again. Where that is gone, the harness runs once more against the answers in the
gateway's log; a request that has no answer there is refused.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any

from slurmeval import secrets
from slurmeval.containment.scratch_dir import scratch_dir
from slurmeval.errors import ErrorClass, EvaluationFailed, SlurmevalError
from slurmeval.evaluation.evaluate import POLL_S, Evaluation, gateway_config, job_of
from slurmeval.evaluation.reading import read_output
from slurmeval.evaluation.writing import pins, write_partition
from slurmeval.gateway.process import GatewayProcess
from slurmeval.gateway.process import start as start_gateway
from slurmeval.harnesses import cuts, harness, harness_process
from slurmeval.harnesses.attempts import has_attempt
from slurmeval.harnesses.base import HarnessOutput
from slurmeval.ownership import LockFile
from slurmeval.processes import identity
from slurmeval.results import evaluation as results
from slurmeval.results import partitions
from slurmeval.state.lease import Lease
from slurmeval.state.records import write
from slurmeval.state.run_document import RunDocument

NO_SERVER = "no-server.json"
"""The lease of a gateway that answers from its log alone."""

FORGOTTEN = frozenset({"slurmeval_version"})
"""What an older partition says of its writer, not of the evaluation."""

Pair = tuple[str, str]


def rescore_all(
    run: RunDocument, pairs: Iterable[Pair], say: Callable[[str], None]
) -> dict[Pair, SlurmevalError]:
    """Rescores evaluations one after another and returns those that could not be, with the reason."""
    failed: dict[Pair, SlurmevalError] = {}
    for model, benchmark in pairs:
        try:
            samples = rescore(run, model, benchmark)
        except SlurmevalError as error:
            failed[model, benchmark] = error
            say(f"{model} on {benchmark}: not rescored: {error}")
        else:
            say(f"{model} on {benchmark}: {samples} samples rescored")
    return failed


def rescore(run: RunDocument, model: str, benchmark: str) -> int:
    """Writes the partition of an evaluation that has ended well anew; returns the number of its samples.

    Raises EvaluationFailed, leaving the partition as it is.
    """
    evaluation = Evaluation(run, model, benchmark)
    known = partitions.evaluation_row(evaluation.paths.evaluation(model, benchmark))
    if not evaluation.work.is_dir():
        raise EvaluationFailed(ErrorClass.BAD_RESULT, f"nothing is left of it in {evaluation.work}")
    lock_file = LockFile(run.lock_file(model, benchmark))
    if lock_file.take() is not None:
        raise EvaluationFailed(ErrorClass.CANCELLED, "it runs just now")
    try:
        output = _left(evaluation) or _replayed(evaluation)
        write_partition(evaluation, _with_known(pins(evaluation), known), output)
    except (OSError, KeyError, TypeError) as error:  # what staging or making has written is gone
        raise EvaluationFailed(ErrorClass.BAD_RESULT, f"{type(error).__name__}: {error}") from error
    finally:
        lock_file.release()
    return len(output.samples)


def _left(evaluation: Evaluation) -> HarnessOutput | None:
    """Returns what the last try of the harness left; None where that is gone."""
    job = job_of(evaluation, "", "")
    return harness(evaluation.benchmark.harness).read(job) if has_attempt(job.folder) else None


def _replayed(evaluation: Evaluation) -> HarnessOutput:
    """Runs the harness against stored answers alone."""
    program = harness(evaluation.benchmark.harness)
    no_server = evaluation.work / NO_SERVER
    write(no_server, Lease(None, evaluation.model, evaluation.benchmark_id, None, identity(), released=True))
    with scratch_dir() as place:
        config = replace(gateway_config(evaluation, place), leases=[no_server])
        with start_gateway(config, evaluation.work) as gateway:
            job = job_of(evaluation, gateway.url, gateway.api_key)
            command = program.prepare(job)
            deadline = time.monotonic() + evaluation.planned_benchmark.time_limit_min * 60
            running = harness_process.start(job, command, place, gateway.port, evaluation.harness_log)
            try:
                while running.poll() is None:
                    _check(gateway, deadline)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        running.wait(POLL_S)
            finally:
                harness_process.end(running)
                secrets.scrub(evaluation.work, job.secrets)
            cuts.count(program, job, command, place, gateway.port, evaluation.work / cuts.LOG)
    return read_output(program, job, running.returncode, evaluation.harness_log)


def _check(gateway: GatewayProcess, deadline: float) -> None:
    """Raises EvaluationFailed where the harness cannot end: the gateway holds a request for a server."""
    if (failed := gateway.failure()) is not None:
        raise failed
    report = gateway.progress()
    if report is not None and report.holding:
        raise EvaluationFailed(ErrorClass.BAD_RESULT, "not all of its answers are stored")
    if time.monotonic() > deadline:
        raise EvaluationFailed(ErrorClass.TIME_LIMIT, "its harness did not end in time")


def _with_known(pinned: results.EvaluationRecord, known: dict[str, Any]) -> results.EvaluationRecord:
    """Keeps what the older partition says of the evaluation: when it ran, and with which versions."""
    kept = {}
    for field in fields(pinned):
        column = partitions.JSON_FIELDS.get(field.name, field.name)
        if field.name not in FORGOTTEN and known.get(column) is not None:
            kept[field.name] = json.loads(known[column]) if column != field.name else known[column]
    return replace(pinned, **kept)
