"""Harnesses that are slurmeval's own programs: they read an order, ask the gateway, and leave their results.

A harness is a class derived from `OwnProgram`, and a module with the program, whose main function calls
`carry_out`. The program gets `order.json` in the attempt's folder, asks through `asking`, and writes
`results.json` and a file of samples there, or `failure.json` with the reason why there are none.
"""

from __future__ import annotations

import asyncio
import json
import operator
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

from slurmeval.config.models import Benchmark, Model
from slurmeval.errors import ErrorClass, EvaluationFailed, UserError
from slurmeval.files import write_atomically, write_json
from slurmeval.harnesses.attempts import begin_attempt, last_attempt
from slurmeval.harnesses.base import Command, Harness, Job, Sample
from slurmeval.harnesses.job_environment import environment_variables
from slurmeval.harnesses.json_lines import MALFORMED, objects
from slurmeval.harnesses.logs import has_ended_well
from slurmeval.harnesses.nemo_readers.reading import json_value
from slurmeval.harnesses.prompts import no_bos_of_its_own
from slurmeval.harnesses.sample_checks import each_once, well_formed
from slurmeval.harnesses.scores import bad_result

SOURCE = Path(__file__).parents[2]
LOCK = "own-programs"
"""The lock of their environment, which is empty: they run in slurmeval's own."""
MAX_TOKENS = 512
"""Longest answer where the benchmark does not say."""

Program = Callable[[dict[str, Any], Path], Awaitable[None]]
"""Carries out an order, and leaves its results in a folder."""


class OwnProgram(Harness):
    """A harness that is a program of slurmeval's own: what all of them share."""

    name: ClassVar[str]
    """As the config has it."""
    version: ClassVar[str]
    """Of the asking, reading and scoring: it grows when they give other results."""
    module: ClassVar[str]
    """The program, which Python runs with the order's path."""
    lacks: ClassVar[tuple[str, ...]] = ("task_file", "few_shot")
    """Keys of a benchmark that mean nothing to it."""
    extra: ClassVar[tuple[str, ...]] = ()
    """Keys that it knows in a benchmark's `extra`."""

    @property
    def label(self) -> str:
        """Its name and version, as results have them."""
        return f"slurmeval {self.name} {self.version}"

    def problems(self, benchmark: Benchmark) -> list[str]:
        """Returns what no program of slurmeval's own can do; further problems are a harness's own."""
        found = [
            f"{key}: the harness {self.name} has none"
            for key in self.lacks
            if getattr(benchmark, key) is not None
        ]
        if benchmark.runtime == "image":
            found.append(f"runtime: the harness {self.name} runs in its environment")
        known = f"; {self.name} knows {' and '.join(self.extra)}" if self.extra else ""
        unknown = sorted(benchmark.extra.keys() - set(self.extra))
        return [*found, *(f"extra.{key}: unknown{known}" for key in unknown)]

    def model_problems(self, model: Model, benchmark: Benchmark) -> list[str]:
        """Returns why it cannot ask the model: by default only what its tokens before a prompt tell."""
        return no_bos_of_its_own(model, benchmark)

    def environments(self, benchmark: Benchmark) -> str:
        """Returns the name of the empty lock."""
        return LOCK

    def starts_early(self, benchmark: Benchmark) -> bool:
        """Returns True: it asks for nothing but answers, and waits for them."""
        return True

    def versions(self, benchmark: Benchmark, lock: Path) -> dict[str, str]:
        """Returns its own version."""
        return {f"slurmeval-{self.name}": self.version}

    def order(self, job: Job) -> dict[str, Any]:
        """Returns what the program is told beside url, model, limit, repeats, parallelism and sampling.

        Raises:
            UserError: The job cannot be started.
        """
        return {}

    def prepare(self, job: Job) -> Command:
        """Makes the folder of a new attempt with an order, and returns the command that carries it out.

        Raises:
            UserError: The job cannot be started.
        """
        order, benchmark = self.order(job), job.benchmark
        attempt = begin_attempt(job.folder)
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
        argv = [sys.executable, "-m", self.module, str(attempt / "order.json")]
        return Command(argv, env, attempt, own=True)

    def check(self, job: Job, returncode: int, log: Path) -> None:
        """Checks every sign that the last attempt ended well.

        Raises:
            EvaluationFailed: One of them says that it did not.
        """
        attempt = last_attempt(job.folder)
        failed = content(attempt / "failure.json")
        if failed is not None:
            raise EvaluationFailed(ErrorClass(failed["error_class"]), failed["reason"])
        has_ended_well(self.name, returncode, log, attempt / "results.json")


def carry_out(program: Program, path: Path, name: str) -> int:
    """Runs a program on its order. Returns 0 with its results, and 1 where failure.json gives the reason."""
    order, status = json.loads(path.read_text(encoding="utf-8")), 0

    async def run() -> None:
        await program(order, path.parent)

    try:
        asyncio.run(run())
    except* (EvaluationFailed, UserError) as group:
        error = _first(group)
        kind = error.error_class if isinstance(error, EvaluationFailed) else ErrorClass.HARNESS_ERROR
        write_json(path.parent / "failure.json", {"error_class": kind, "reason": str(error)})
        print(f"{name}: {error}", flush=True)
        status = 1
    return status


def leave(
    folder: Path, lines: list[dict[str, Any]], results: dict[str, Any], file: str = "samples.jsonl"
) -> None:
    """Writes what `left` reads: a line for each sample, and last what is known of all."""
    # In ASCII: what models write has lone surrogates in it, which no file in UTF-8 can hold
    write_atomically(folder / file, "".join(json.dumps(line) + "\n" for line in lines))
    write_json(folder / "results.json", results)


def left(
    job: Job, count: str, sample: Callable[[dict[str, Any]], Sample], file: str = "samples.jsonl"
) -> tuple[int, list[dict[str, Any]], list[Sample]]:
    """Returns the number `count` in the results, the lines of a file, and a sample of each, each once.

    Raises:
        EvaluationFailed: They cannot be read (bad_result).
    """
    attempt, harness = last_attempt(job.folder), job.benchmark.harness
    samples, lines, where = [], [], "results.json"
    try:
        wanted = operator.index(json_value(attempt / where)[count])
        for line in objects(attempt / file):
            where = f"{file}:{line.number}"
            lines.append(line.content)
            samples.append(sample(line.content))
    except MALFORMED as error:
        raise bad_result(f"{where}: not laid out as {harness} does: {error!r}") from error
    return wanted, lines, each_once(well_formed(samples, harness), attempt / file)


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


def _first(error: BaseException) -> BaseException:
    """Returns the first failure of many at once."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
