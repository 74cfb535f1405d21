"""What a harness left, and why it left nothing where its requests were refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.gateway import log as gateway_log
from slurmeval.harnesses.base import Harness, HarnessOutput, Job


def read_output(program: Harness, job: Job, returncode: int, log: Path) -> HarnessOutput:
    """What the harness wrote, if all signs say that it ended well and it holds every sample."""
    program.check(job, returncode, log)
    output = program.read(job)
    if not output.metrics:
        raise EvaluationFailed(ErrorClass.BAD_RESULT, "the harness ended well, but wrote no score")
    return output


@contextmanager
def refusals_named(log: Path) -> Iterator[None]:
    """Has a failure say first what the server refused: a harness's own last words are consequences.

    `log` is the gateway's. Where nothing was answered in any try, that alone is the reason (bad_result).
    """
    try:
        yield
    except EvaluationFailed as failure:
        refused = list(gateway_log.unanswered(log))
        if not refused or failure.error_class is ErrorClass.SERVER_LOST:
            raise
        n, last = len(refused), refused[-1].error
        if not any(record.answered for record in gateway_log.read(log)):
            reason = f"none of {n:,} requests was answered; the last: {last}"
            raise EvaluationFailed(ErrorClass.BAD_RESULT, reason) from failure
        what = f"{n:,} requests were not answered; the last" if n > 1 else "a request was not answered"
        reason = f"{what}: {last}. {failure.reason}"
        raise EvaluationFailed(failure.error_class, reason) from failure
