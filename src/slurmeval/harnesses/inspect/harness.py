"""The `inspect` harness: tasks of inspect_evals or of one's own file, through Inspect AI's chat client."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slurmeval.config.models import Benchmark
from slurmeval.environments.package_versions import pinned_versions
from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.files import write_json
from slurmeval.harnesses.attempts import begin_attempt, last_attempt
from slurmeval.harnesses.base import HARNESS_TIMEOUT_S, Command, Harness, HarnessOutput, Job
from slurmeval.harnesses.inspect import results, run, tasks
from slurmeval.harnesses.job_environment import environment_variables
from slurmeval.harnesses.logs import has_ended_well

NAME = "inspect"
LOCAL = "local"
MAX_RETRIES = 2
"""Of a request. The gateway has tried by then as often as it may, and holds those whose server is away."""
LIMITS = ("message_limit", "token_limit", "turn_limit", "time_limit", "working_limit")
"""Limits of a sample, as `inspect_ai.eval` has them."""
_MAPPINGS = ("task_args", "model_args", "model_roles", "generate")
_KNOWN = (*_MAPPINGS, *LIMITS, "reducers", "sandbox", "seed", "category")
_PLACEHOLDER = re.compile(r"\$\{dataset:([^}]*)\}")


class Inspect(Harness):
    """The `inspect` harness."""

    def problems(self, benchmark: Benchmark) -> list[str]:
        """Returns what this harness cannot do of a benchmark's config: lines that begin with the key."""
        found = []
        if not benchmark.task:
            found.append("task: is missing; it names a task of inspect_evals or of task_file")
        elif benchmark.task_file is None:
            found += tasks.problems(benchmark)
        elif Path(benchmark.task_file).suffix != ".py":
            found.append(f"task_file: {benchmark.task_file} must be a Python file with Inspect tasks (.py)")
        if benchmark.endpoint != "chat":
            found.append("endpoint: Inspect asks through chat")
        if benchmark.few_shot is not None:
            found.append("few_shot: Inspect has none; a task that takes examples has them in extra.task_args")
        if benchmark.network and benchmark.extra.get("sandbox") is not None:
            found.append("network: it runs what the model writes, and that gets no network")
        return [*found, *_extra_problems(benchmark)]

    def environments(self, benchmark: Benchmark) -> str:
        """Returns the name of its environment's lock."""
        return NAME

    def starts_early(self, benchmark: Benchmark) -> bool:
        """Returns whether it may start while its server still loads."""
        return "client_timeout" not in benchmark.extra.get("model_args", {})

    def versions(self, benchmark: Benchmark, lock: Path) -> dict[str, str]:
        """Returns the pinned versions that alter results, by package."""
        own = benchmark.task_file is not None
        return pinned_versions(lock, ("inspect-ai",) if own else ("inspect-ai", "inspect-evals"))

    def prepare(self, job: Job) -> Command:
        """Makes the folder of a new attempt and returns the command.

        Raises:
            EvaluationFailed: The job cannot be started.
        """
        attempt = begin_attempt(job.folder)
        shutil.copyfile(run.__file__, attempt / "run.py")
        write_json(attempt / "order.json", _order(job, _task(job, attempt)))
        env = environment_variables(job, attempt) | {"SLURMEVAL_API_KEY": job.api_key}
        hostile = job.benchmark.extra.get("sandbox") is not None
        return Command([job.runtime.python, "run.py", "order.json"], env, attempt, hostile)

    def check(self, job: Job, returncode: int, log: Path) -> None:
        """Checks every sign that the last attempt ended well.

        Raises:
            EvaluationFailed: One of them says that it did not.
        """
        has_ended_well(NAME, returncode, log, last_attempt(job.folder) / run.RESULTS)

    def read(self, job: Job) -> HarnessOutput:
        """Returns the results of the last attempt.

        Raises:
            EvaluationFailed: They cannot be read, or their number is not what was asked for (bad_result).
        """
        versions = [job.runtime.version("inspect-ai")]
        label = "inspect_ai {}"
        if job.task_file is None:
            versions.append(job.runtime.version("inspect-evals"))
            label += ", inspect_evals {}"
        return results.read(job, last_attempt(job.folder), label.format(*versions))


def _extra_problems(benchmark: Benchmark) -> Iterator[str]:
    extra = benchmark.extra
    for key in sorted(extra.keys() - set(_KNOWN)):
        yield f"extra.{key}: unknown; {NAME} knows {', '.join(_KNOWN)}"
    for key in _MAPPINGS:
        if not isinstance(extra.get(key, {}), dict):
            yield f"extra.{key}: expected a mapping"
    for key in (*LIMITS, "seed"):
        value = extra.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < (key != "seed"):
            yield f"extra.{key}: expected a whole number"
    if extra.get("sandbox") not in (None, LOCAL):
        yield (
            f"extra.sandbox: {extra['sandbox']!r} must be {LOCAL}: commands run in the harness's own "
            "containment; Docker is on no cluster's nodes"
        )
    reducers = extra.get("reducers", [])
    if not isinstance(reducers, list) or not all(isinstance(name, str) for name in reducers):
        yield "extra.reducers: expected a list of names, such as [mean, pass_at_2]"
    if not isinstance(extra.get("category", ""), str):
        yield "extra.category: expected the name of a key of the samples' metadata"


def _task(job: Job, attempt: Path) -> str:
    """Returns the task's name as Inspect wants it; a file of one's own is laid out."""
    if job.task_file is None:
        return f"inspect_evals/{job.benchmark.task}"
    target = attempt / "task" / f"{job.benchmark.task.replace('.', '_')}.py"
    target.parent.mkdir()
    try:
        shutil.copyfile(job.task_file, target)
    except OSError as error:
        raise EvaluationFailed(ErrorClass.HARNESS_ERROR, f"{job.task_file}: {error.strerror}") from error
    return f"task/{target.name}@{job.benchmark.task}"


def _order(job: Job, task: str) -> dict[str, Any]:
    benchmark, extra = job.benchmark, job.benchmark.extra
    folders = {name: str(folder.absolute()) for name, folder in job.datasets.items()}

    def laid_out(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return _PLACEHOLDER.sub(lambda match: folders[match[1]], value)

    generation = {
        "temperature": benchmark.temperature,
        "top_p": benchmark.top_p,
        "max_tokens": benchmark.max_tokens,
    }
    arguments = {
        "task_args": {key: laid_out(value) for key, value in extra.get("task_args", {}).items()},
        "limit": benchmark.limit,
        "max_connections": job.parallelism,
        "max_samples": job.parallelism,
        "max_retries": MAX_RETRIES,
        "sandbox": extra.get("sandbox"),
        **{key: extra[key] for key in LIMITS if key in extra},
        **extra.get("generate", {}),
        **generation,
    }
    return {
        "task": task,
        "model": job.served_name,
        "url": job.base_url,
        "seed": extra.get("seed", 0),
        "epochs": benchmark.repeats,
        "reducers": extra.get("reducers"),
        "model_args": {"client_timeout": HARNESS_TIMEOUT_S, "stream": False} | extra.get("model_args", {}),
        "model_roles": extra.get("model_roles", {}),
        "arguments": {key: value for key, value in arguments.items() if value is not None},
    }
