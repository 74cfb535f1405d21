"""The `custom` harness: questions of one's own, asked and scored by `run`."""

from __future__ import annotations

import dataclasses
import math
import operator
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from slurmeval.config.models import Benchmark, Model
from slurmeval.config.questions import (
    LIKELIHOOD_KINDS,
    TEXT_KINDS,
    CustomQuestions,
    Kind,
    Perturbations,
    Scorer,
)
from slurmeval.errors import ErrorClass, EvaluationFailed, UserError
from slurmeval.harnesses.base import HarnessOutput, Job, Metric, Sample, Score
from slurmeval.harnesses.custom import perturbing, questions
from slurmeval.harnesses.own_programs import OwnProgram
from slurmeval.harnesses.scores import bad_result

NAME = "custom"
VERSION = "1"
"""Of the asking and scoring here: it grows when they give other results."""


class Custom(OwnProgram):
    """The `custom` harness."""

    name = NAME
    version = VERSION
    module = "slurmeval.harnesses.custom.run"
    lacks = ("task_file",)

    def problems(self, benchmark: Benchmark) -> list[str]:
        """Returns what this harness cannot do of a benchmark's config: lines that begin with the key."""
        found = []
        asked = benchmark.questions
        if asked is None:
            found.append("questions: is missing; it says how questions are asked and scored")
        else:
            found += _problems(asked)
            found += _likelihood_problems(asked, benchmark.endpoint)
            if asked.system is not None and benchmark.endpoint != "chat":
                found.append("questions.system: goes with endpoint: chat")
        if len(benchmark.datasets) != 1:
            found.append("datasets: must name the one data set that holds the questions")
        if benchmark.few_shot is not None:
            found.append(f"few_shot: the harness {NAME} has none; see questions.examples")
        return [*found, *super().problems(benchmark)]

    def model_problems(self, model: Model, benchmark: Benchmark) -> list[str]:
        """Returns why this harness cannot run the benchmark on a model, each reason in a few words."""
        if not model.logprobs and benchmark.questions and _by_likelihood(benchmark.questions):
            return ["needs log-probabilities of prompts, which the model's server gives none of"]
        return super().model_problems(model, benchmark)

    def order(self, job: Job) -> dict[str, Any]:
        """Returns what the program is told of the benchmark.

        Raises:
            EvaluationFailed: The job cannot be started.
        """
        (name,) = job.benchmark.datasets
        asked = _questions(job.benchmark)
        try:
            data = questions.file_of(asked, job.datasets[name])
        except UserError as error:
            raise EvaluationFailed(ErrorClass.HARNESS_ERROR, str(error)) from error
        told = {"data": str(data.absolute()), "questions": asked.model_dump(mode="json")}
        return told | {"interpreter": job.runtime.python}

    def read(self, job: Job) -> HarnessOutput:
        """Returns the results of the last attempt.

        Raises:
            EvaluationFailed: They cannot be read, or their number is not what was asked for (bad_result).
        """
        asked, repeats = _questions(job.benchmark), job.benchmark.repeats
        wanted, lines, samples = self.left(
            job, "n_questions", lambda line: _sample(line, job.benchmark, job.benchmark_id)
        )
        found = len({sample.native_id for sample in samples})
        if (
            len(samples) != wanted * repeats
            or found != wanted
            or any(sample.repeat_idx not in range(repeats) for sample in samples)
        ):
            raise bad_result(f"{NAME}: {wanted} questions, {repeats} times, and {len(samples)} samples")
        metrics = _all_metrics(samples, job.benchmark_id, repeats, asked)
        if asked.rotate:
            metrics += [_circular(name, lines, job.benchmark_id, repeats) for name in asked.scorers]
        n_available, keeps = _n_available(job, asked), not _by_likelihood(asked)
        return HarnessOutput(metrics, samples, wanted * repeats, self.label, None, keeps, n_available)


def _n_available(job: Job, asked: CustomQuestions) -> int | None:
    """Returns how many questions the file has; None: it cannot be read, or each is asked in several ways."""
    if asked.rotate or asked.perturb:
        return None
    (name,) = job.benchmark.datasets
    try:
        return sum(1 for _ in questions.rows(questions.file_of(asked, job.datasets[name])))
    except (KeyError, UserError):
        return None


def _questions(benchmark: Benchmark) -> CustomQuestions:
    assert benchmark.questions is not None, "checked with the config"
    return benchmark.questions


def _problems(asked: CustomQuestions) -> Iterator[str]:
    kinds = get_args(Kind)
    for name, scorer in asked.scorers.items():
        if scorer.kind is None and name not in kinds:
            yield f"questions.scorers.{name}.kind: is missing; expected one of {', '.join(kinds)}"
        if _kind(name, scorer) == "choice" and asked.choices is None:
            yield f"questions.scorers.{name}: goes with questions.choices, the column that has them"
        if scorer.pattern is not None:
            try:
                re.compile(scorer.pattern)
            except re.error as error:
                yield f"questions.scorers.{name}.pattern: is no regular expression: {error}"


def _kind(name: str, scorer: Scorer) -> str:
    return scorer.kind or name


def _score(name: str, scorer: Scorer, found: dict[str, Any]) -> Score:
    # Attempts of version 0.1 say `right`
    value = float(found["value"] if "value" in found else bool(found["right"]))
    graded = _kind(name, scorer) in (*TEXT_KINDS, "json")
    return Score(name, value, correct=None if graded else value == 1, answer=found["read"])


def _likelihood_problems(asked: CustomQuestions, endpoint: str) -> Iterator[str]:
    """Yields why choices cannot be told by their likelihoods."""
    of_likelihood = [
        name for name, scorer in asked.scorers.items() if _kind(name, scorer) in LIKELIHOOD_KINDS
    ]
    for name in of_likelihood[:1]:
        if len(of_likelihood) < len(asked.scorers):
            yield f"questions.scorers.{name}: generates nothing that the other scorers could read"
        if asked.choices is None:
            yield f"questions.scorers.{name}: goes with questions.choices, the column that has them"
        if endpoint != "completions":
            yield f"questions.scorers.{name}: goes with endpoint: completions"
    if asked.perturb is not None:
        yield from _perturb_problems(asked, asked.perturb)
    if asked.rotate and asked.choices is None:
        yield "questions.rotate: goes with questions.choices, the column that has them"


def _perturb_problems(asked: CustomQuestions, wanted: Perturbations) -> Iterator[str]:
    if asked.rotate:
        yield "questions.perturb: goes with rotate: false"
    if perturbing.OPTIONS in wanted.kinds and asked.choices is None:
        yield "questions.perturb.kinds: options goes with questions.choices, the column that has them"
    if (perturbing.PARAPHRASE in wanted.kinds) != (wanted.paraphrase is not None):
        yield "questions.perturb.paraphrase: names the column of the kind paraphrase, which goes with it"


def _all_metrics(samples: list[Sample], task: str, repeats: int, asked: CustomQuestions) -> list[Metric]:
    """Returns the scores of the questions themselves, and then those of each way to alter them."""
    found = []
    for each in dict.fromkeys([task, *(sample.task for sample in samples)]):
        own = [sample for sample in samples if sample.task == each]
        metrics = [_metric(name, own, each, repeats, asked) for name in asked.scorers]
        for metric in metrics:
            metric.is_primary = metric.is_primary and each == task
        found += metrics
    return found


def _by_likelihood(asked: CustomQuestions) -> bool:
    return any(_kind(name, scorer) in LIKELIHOOD_KINDS for name, scorer in asked.scorers.items())


def _circular(name: str, lines: Sequence[dict[str, Any]], task: str, repeats: int) -> Metric:
    """Returns the share of questions that are right in every rotation."""
    right: dict[tuple[str, int], bool] = {}
    for line in lines:
        key = line["rotation_of"], line["repeat"]
        right[key] = right.get(key, True) and line["scores"][name]["value"] == 1
    mean = statistics.fmean(right.values())
    questions = {question for question, _ in right}
    return Metric(task, f"{name}_circular", mean, mean, n_items=len(questions), n_repeats=repeats)


def _sample(line: dict[str, Any], benchmark: Benchmark, task: str) -> Sample:
    asked = _questions(benchmark)
    scorers: Mapping[str, Scorer] = asked.scorers
    verdicts = {name: line["scores"][name] for name in scorers}
    read = next(iter(verdicts.values()))["read"]
    status: Literal["ok", "error", "unparsed"] = "ok" if read is not None else "unparsed"
    told = {"system": line["system"], "references": line["references"], "error": line["error"]}
    told |= {name: line.get(name) for name in ("perturbation", "perturbation_of")}
    told = {name: value for name, value in told.items() if value is not None}
    if len(line["references"]) < 2:
        del told["references"]
    return Sample(
        native_id=line["id"],
        repeat_idx=operator.index(line["repeat"]),
        task=f"{task}.{line['perturbation']}" if line.get("perturbation") else task,
        input=line["prompt"],
        output=line["answer"],
        reference=" | ".join(line["references"]),
        choices=line["choices"],
        category=line["category"],
        scores=[_score(name, scorers[name], found) for name, found in verdicts.items()],
        status="error" if line["answer"] is None else status,
        cut=False,
        metadata=told,
        prompts=_prompts(line, asked, benchmark.endpoint),
    )


def _prompts(line: dict[str, Any], asked: CustomQuestions, endpoint: str) -> list[str]:
    """Returns the texts of a sample's requests, where the prompt is not all of them."""
    if endpoint == "chat":
        return []
    fields = (field.name for field in dataclasses.fields(questions.Question))
    question = questions.Question(**{name: line[name] for name in fields if name in line})
    return [question.text, *(questions.continuations(question) if _by_likelihood(asked) else ())]


def _metric(name: str, samples: list[Sample], task: str, repeats: int, asked: CustomQuestions) -> Metric:
    """Returns the mean over questions of the mean over their answers."""
    values: dict[str, list[float]] = {}
    for sample in samples:
        (value,) = (score.value for score in sample.scores if score.metric == name)
        values.setdefault(sample.native_id, []).append(value or 0.0)
    means = [statistics.fmean(each) for each in values.values()]
    mean = statistics.fmean(means)
    counts = {len(sample.choices) for sample in samples if sample.choices}
    kind = _kind(name, asked.scorers[name])
    by_letter = kind == "choice" and len(counts) == 1
    share = kind != "ter"  # which has no end
    return Metric(
        task=task,
        metric=name,
        value=mean if share else None,
        harness_value=mean,
        harness_scale=1 if share else None,
        higher_is_better=share,
        se=statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else None,
        n_items=len(means),
        n_repeats=repeats,
        is_primary=name == next(iter(asked.scorers)),
        chance=1 / counts.pop() if by_letter else None,
    )
