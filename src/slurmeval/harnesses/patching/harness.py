"""The `patching` harness: activation patching of the staged weights, without a server."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slurmeval.config.models import Benchmark, Model
from slurmeval.config.patching import PatchingSettings
from slurmeval.environments.package_versions import pinned_versions
from slurmeval.files import write_json
from slurmeval.harnesses.attempts import begin_attempt, last_attempt
from slurmeval.harnesses.base import Command, Harness, HarnessOutput, Job, Metric, Sample, Score
from slurmeval.harnesses.job_environment import environment_variables
from slurmeval.harnesses.logs import has_ended_well
from slurmeval.harnesses.nemo_readers.reading import laid_out_by
from slurmeval.harnesses.own_programs import left
from slurmeval.harnesses.patching import pairs, run
from slurmeval.harnesses.sample_checks import complete
from slurmeval.harnesses.scores import bad_result

NAME = "patching"
VERSION = "2"
"""Of the pairs and the patching here: it grows when they give other results."""
INPUT = "pairs.input.jsonl"
REHEARSAL = "rehearsal"
"""The model of a rehearsal: a small random one, with the tokenizer of a real one."""
ACCURACY, RECOVERED = "accuracy", "recovered"


class Patching(Harness):
    """The `patching` harness."""

    def problems(self, benchmark: Benchmark) -> list[str]:
        """Returns what this harness cannot do of a benchmark's config: lines that begin with the key."""
        known = (*pairs.KINDS, pairs.OWN)
        found = [f"extra.{key}: unknown; {NAME} has none" for key in benchmark.extra]
        if benchmark.task not in known:
            found.append(f"task: {benchmark.task!r} must be one of {', '.join(known)}")
        if (len(benchmark.datasets) == 1) != (benchmark.task == pairs.OWN):
            found.append(f"datasets: task: {pairs.OWN} has one, with a .jsonl file; the others have none")
        for key in ("task_file", "few_shot", "temperature", "top_p", "max_tokens"):
            if getattr(benchmark, key) is not None:
                found.append(f"{key}: {NAME} has none")
        if benchmark.repeats != 1:
            found.append(f"repeats: {NAME} has none; the same pair gives the same numbers")
        if benchmark.runtime == "image":
            found.append(f"runtime: {NAME} runs in its environment")
        return found

    def check_data(self, benchmark: Benchmark, folder: Path) -> None:
        """Reads the pairs. Raises UserError where they will not do."""
        if benchmark.task == pairs.OWN:
            pairs.of_folder(folder, benchmark.limit)

    def model_problems(self, model: Model, benchmark: Benchmark) -> list[str]:
        """Returns why this harness cannot run the benchmark on a model, each reason in a few words."""
        return [] if model.weights is not None else ["looks inside the weights, and the model has none here"]

    def environments(self, benchmark: Benchmark) -> str:
        """Returns the name of its environment's lock."""
        return "patching-cuda" if settings_of(benchmark).gpus else "patching-cpu"

    def starts_early(self, benchmark: Benchmark) -> bool:
        """Returns whether it may start while its server still loads."""
        return True

    def loads_tokenizer(self, model: Model, benchmark: Benchmark) -> bool:
        """Returns whether it tokenizes prompts itself."""
        return True

    def versions(self, benchmark: Benchmark, lock: Path) -> dict[str, str]:
        """Returns the pinned versions that alter results, by package."""
        return {"slurmeval-patching": VERSION} | pinned_versions(lock, ("transformer-lens", "torch"))

    def prepare(self, job: Job) -> Command:
        """Makes the folder of a new attempt and returns the command.

        Raises:
            UserError: The job cannot be started.
        """
        lines = _pairs(job)
        attempt = begin_attempt(job.folder)
        shutil.copyfile(run.__file__, attempt / "run.py")
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (attempt / INPUT).write_text(text, encoding="utf-8")
        asked, model = settings_of(job.benchmark), job.model_entry
        order = {
            "weights": str(job.tokenizer.absolute()),
            "pairs": INPUT,
            "dtype": "auto" if model is None else model.dtype,
            "trust_remote_code": model is not None and model.trust_remote_code,
            "gpus": asked.gpus,
            "rehearsal": job.model == REHEARSAL,
            "sites": list(asked.sites),
            "every_layer": asked.every_layer,
            "batch": asked.batch,
        }
        write_json(attempt / "order.json", order)
        env = environment_variables(job, attempt)
        return Command([job.runtime.python, "run.py", "order.json"], env, attempt, own=True)

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
        wanted, lines, samples = left(
            job, "n_pairs", lambda line: _sample(line, job.benchmark.task), run.PAIRS
        )
        complete(samples, wanted, 1, NAME)
        patched = [line for line in lines if line["problem"] is None]
        if not patched:
            reason = lines[0]["problem"] if lines else "there is none"
            raise bad_result(f"{NAME}: no pair can be patched; the first: {reason}")
        with laid_out_by(NAME, last_attempt(job.folder) / run.PAIRS):
            metrics = [_accuracy(patched, job.benchmark.task), *_best(patched, job.benchmark)]
        return HarnessOutput(metrics, samples, wanted, f"slurmeval patching {VERSION}", None)


def settings_of(benchmark: Benchmark) -> PatchingSettings:
    """Returns the benchmark's section `patching`, or its defaults."""
    return benchmark.patching or PatchingSettings()


def _pairs(job: Job) -> list[dict[str, Any]]:
    benchmark = job.benchmark
    if benchmark.task != pairs.OWN:
        return pairs.of_kind(benchmark.task, benchmark.limit)
    (name,) = benchmark.datasets
    return pairs.of_folder(job.datasets[name], benchmark.limit)


def _sample(line: dict[str, Any], task: str) -> Sample:
    scores = []
    if line["problem"] is None:
        right = bool(line["right"])
        scores = [Score(ACCURACY, float(right), correct=right, answer=line["top"])]
    kept = ("answer", "wrong", "tokens", "problem", "logit_difference", "corrupted_logit_difference", "cells")
    return Sample(
        native_id=line["id"],
        task=task,
        input=f"{line['clean']}\n{line['corrupted']}",
        output=line.get("top", ""),
        category=line["category"],
        reference=line["answer"],
        choices=[line["answer"], line["wrong"]],
        scores=scores,
        status="ok" if line["problem"] is None else "unparsed",
        cut=False,
        metadata={name: line[name] for name in kept if line.get(name) is not None},
    )


def _accuracy(lines: Sequence[dict[str, Any]], task: str) -> Metric:
    """Returns the share of pairs whose clean prompt makes the answer likelier than the wrong one."""
    value = statistics.fmean(bool(line["right"]) for line in lines)
    return Metric(task, ACCURACY, value, value, n_items=len(lines), is_primary=True)


def _best(lines: Sequence[dict[str, Any]], benchmark: Benchmark) -> list[Metric]:
    """Returns the cell of each site that recovers most, on average over the pairs that have it."""
    found = []
    for site in settings_of(benchmark).sites:
        cells = cells_of(lines, site)
        means = {cell: statistics.fmean(values) for cell, values in cells.items()}
        if means:
            best = max(means, key=lambda cell: (means[cell], cell))
            value = means[best] if math.isfinite(means[best]) else None
            where = f"layer {best[0]}, {_axes(site, best)}"
            found.append(
                Metric(
                    benchmark.task,
                    RECOVERED,
                    None,
                    value,
                    subset=where,
                    filter=site,
                    harness_scale=None,
                    n_items=len(cells[best]),
                )
            )
    return found


def cells_of(lines: Sequence[dict[str, Any]], site: str) -> dict[tuple[int, ...], list[float]]:
    """Returns the recovered fractions of each cell of a site, one for each pair.

    A cell is a layer, with the position, counted from the end (-1 is the last), or the head, or both.
    """
    found: dict[tuple[int, ...], list[float]] = {}
    for line in lines:
        length = len(line["tokens"])
        for layer, *place, value in (line.get("cells") or {}).get(site, ()):
            if site != "heads":
                place[0] -= length
            found.setdefault((layer, *place), []).append(float(value))
    return found


def _axes(site: str, cell: tuple[int, ...]) -> str:
    if site == "heads":
        return f"head {cell[1]}"
    return f"position {cell[1]}" + (f", head {cell[2]}" if len(cell) > 2 else "")
