"""Records of failures: why an evaluation failed when it was last tried. Light, since leases import it."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from slurmeval.errors import ErrorClass, EvaluationFailed, ServerFailed, SlurmevalError
from slurmeval.files import read_json, write_json


def no_server(failure: ServerFailed) -> EvaluationFailed:
    """What it means for an evaluation that there is no server for it."""
    told = (ErrorClass.CANCELLED, ErrorClass.OUT_OF_MEMORY)
    return EvaluationFailed(
        failure.error_class if failure.error_class in told else ErrorClass.SERVER_LOST, str(failure)
    )


def unforeseen(error: Exception) -> EvaluationFailed:
    """What it means for an evaluation that its start failed by an error that nobody foresaw. Prints the
    traceback."""
    if isinstance(error, SlurmevalError | OSError):
        return EvaluationFailed(ErrorClass.CANCELLED, str(error))
    traceback.print_exception(error)
    return EvaluationFailed(ErrorClass.HARNESS_ERROR, f"{type(error).__name__}: {error}")


def record(
    path: Path,
    failure: EvaluationFailed,
    model: str,
    benchmark: str,
    started_at: datetime,
    log: str | None,
) -> None:
    """Writes the record of an evaluation's failure, counting the attempts. `log`: relative to the results."""
    write_json(
        path,
        {
            "model": model,
            "benchmark": benchmark,
            "error_class": failure.error_class.value,
            "reason": failure.reason,
            "started_at": started_at.isoformat(),
            "ended_at": datetime.now(UTC).isoformat(),
            "attempt": 1 + failed_attempts(path),
            "log": log,
        },
    )


def failed_attempts(path: Path) -> int:
    """How often the evaluation has failed since it last ended well."""
    try:
        content = read_json(path)
    except ValueError:
        return 0
    return int(content["attempt"]) if content else 0


def last_words(logs: Iterable[Path]) -> str:
    """The last line in the first of these logs that has one."""
    for log in logs:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines:
            return lines[-1][:300]
    return ""
