"""Harnesses that are slurmeval's own programs: they read an order, ask the gateway, and leave their results.

The program gets `order.json` in the attempt's folder, and writes `results.json` there, or `failure.json` with
the reason why there are none.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.files import write_json
from slurmeval.harnesses.attempts import begin_attempt, last_attempt
from slurmeval.harnesses.base import Command, Job
from slurmeval.harnesses.job_environment import environment_variables
from slurmeval.harnesses.logs import failure
from slurmeval.harnesses.nemo_readers.reading import json_value
from slurmeval.harnesses.scores import bad_result

SOURCE = Path(__file__).parents[2]
LOCK = "own-programs"
"""The lock of their environment, which is empty: they run in slurmeval's own."""
MAX_TOKENS = 512
"""Longest answer where the benchmark does not say."""

Program = Callable[[dict[str, Any], Path], Awaitable[None]]
"""Carries out an order, and leaves its results in a folder."""


def prepared(job: Job, module: str, **order: Any) -> Command:
    """Makes the folder of a new attempt with an order, and returns the command that carries it out."""
    benchmark, attempt = job.benchmark, begin_attempt(job.folder)
    order |= {
        "url": job.base_url,
        "endpoint": benchmark.endpoint,
        "model": job.served_name,
        "limit": benchmark.limit,
        "repeats": benchmark.repeats,
        "parallelism": job.parallelism,
        "sampling": {
            "max_tokens": benchmark.max_tokens or MAX_TOKENS,
            "temperature": 0.0 if benchmark.temperature is None else benchmark.temperature,
            **({} if benchmark.top_p is None else {"top_p": benchmark.top_p}),
        },
    }
    write_json(attempt / "order.json", order)
    env = environment_variables(job, attempt) | {"PYTHONPATH": str(SOURCE)}
    argv = [sys.executable, "-m", module, str(attempt / "order.json")]
    return Command(argv, env, attempt, own=True)


def carry_out(program: Program, path: Path, name: str) -> int:
    """Runs a program on its order. Returns 0 with its results, and 1 where failure.json gives the reason."""
    order, status = json.loads(path.read_text(encoding="utf-8")), 0

    async def run() -> None:
        await program(order, path.parent)

    try:
        asyncio.run(run())
    except* EvaluationFailed as group:
        reason = _first(group)
        write_json(path.parent / "failure.json", {"error_class": reason.error_class, "reason": reason.reason})
        print(f"{name}: {reason.reason}", flush=True)
        status = 1
    return status


def check_end(job: Job, returncode: int, log: Path, name: str) -> None:
    """Checks every sign that a program ended well.

    Raises:
        EvaluationFailed: One of them says that it did not.
    """
    attempt = last_attempt(job.folder)
    failed = content(attempt / "failure.json")
    if failed is not None:
        raise EvaluationFailed(ErrorClass(failed["error_class"]), failed["reason"])
    if returncode != 0:
        raise failure(name, returncode, log)
    if not (attempt / "results.json").exists():
        reason = f"{name} ended with status 0, but wrote no results.json"
        raise EvaluationFailed(ErrorClass.HARNESS_ERROR, reason)


def content(path: Path) -> dict[str, Any] | None:
    """Returns the JSON object in a file; None: there is no such file.

    Raises:
        EvaluationFailed: The file holds anything else (bad_result).
    """
    if not path.exists():
        return None
    found = json_value(path)
    if not isinstance(found, dict):
        raise bad_result(f"{path.name}: expected a JSON object")
    return found


def _first(group: BaseExceptionGroup[EvaluationFailed]) -> EvaluationFailed:
    """Returns the first failure of many at once."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, EvaluationFailed)
    return error
