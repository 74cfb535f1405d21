"""The `custom` harness: questions of one's own, asked and scored by `run`."""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from slurmeval.config.messages import nearest
from slurmeval.config.models import Benchmark, Model
from slurmeval.config.questions import (
    LIKELIHOOD_KINDS,
    TEXT_KINDS,
    CustomQuestions,
    Kind,
    Perturbations,
    Scorer,
)
from slurmeval.config.yaml_files import shown
from slurmeval.errors import UserError
from slurmeval.harnesses.attempts import last_attempt
from slurmeval.harnesses.base import HarnessOutput, Job, Metric, Sample, Score
from slurmeval.harnesses.custom import perturbing, questions
from slurmeval.harnesses.custom.scoring import holds_number
from slurmeval.harnesses.nemo_readers.reading import laid_out_by
from slurmeval.harnesses.own_programs import OwnProgram, left
from slurmeval.harnesses.sample_checks import complete
from slurmeval.harnesses.scores import by_question, mean_over_questions, number, proportion

NAME = "custom"
VERSION = "1"
"""Of the asking and scoring here: it grows when they give other results."""


class Custom(OwnProgram):
    """The `custom` harness."""

    name = NAME
    version = VERSION
    module = "slurmeval.harnesses.custom.run"
    lacks = ("task_file",)
    section = "questions"

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

    def check_data(self, benchmark: Benchmark, folder: Path) -> None:
        """Reads the questions. Raises UserError where they will not do."""
        if benchmark.questions is not None:
            questions_of(benchmark, folder)

    def order(self, job: Job) -> dict[str, Any]:
        """Returns what the program is told of the benchmark.

        Raises:
            UserError: The job cannot be started.
        """
        (name,) = job.benchmark.datasets
        asked = _questions(job.benchmark)
        data = questions.file_of(asked, job.datasets[name])
        told = {"data": str(data.absolute()), "questions": asked.model_dump(mode="json")}
        return told | {"interpreter": job.runtime.python}

    def read(self, job: Job) -> HarnessOutput:
        """Returns the results of the last attempt.

        Raises:
            EvaluationFailed: They cannot be read, or their number is not what was asked for (bad_result).
        """
        asked, repeats = _questions(job.benchmark), job.benchmark.repeats
        wanted, lines, samples = left(
            job, "n_questions", lambda line: _sample(line, job.benchmark, job.benchmark_id)
        )
        n_requested = complete(samples, wanted, repeats, NAME)
        metrics = _all_metrics(samples, job.benchmark_id, repeats, asked)
        if asked.rotate:
            with laid_out_by(NAME, last_attempt(job.folder) / "samples.jsonl"):
                metrics += [_circular(name, lines, job.benchmark_id, repeats) for name in asked.scorers]
        n_available, keeps = _n_available(job, asked), not _by_likelihood(asked)
        return HarnessOutput(metrics, samples, n_requested, self.label, None, keeps, n_available)


def questions_of(benchmark: Benchmark, folder: Path) -> list[questions.Question]:
    """Returns a benchmark's questions in a data set's folder. Raises UserError where they will not do."""
    asked = _questions(benchmark)
    found = questions.read(asked, questions.file_of(asked, folder), benchmark.limit)
    for name, scorer in asked.scorers.items():
        texts = (text for question in found for text in question.references)
        if _kind(name, scorer) == "number" and not any(map(holds_number, texts)):
            first = shown(found[0].references[0])
            raise UserError(f"questions.scorers.{name}: no right answer holds a number; the first is {first}")
    return found


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
            near = nearest(name, kinds)
            wanted = near if near.startswith("did you mean") else f"expected one of {', '.join(kinds)}"
            yield f"questions.scorers.{name}.kind: is missing; {wanted}"
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
    value, kind = found["value"] if "value" in found else float(found["right"] is True), _kind(name, scorer)
    on_scale = number(value) if kind == "ter" else proportion(number(value), 1)
    if on_scale is None or on_scale < 0:
        raise ValueError(f"{name} is {value!r}")
    graded = kind in (*TEXT_KINDS, "json")
    return Score(name, on_scale, correct=None if graded else value == 1, answer=found["read"])


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
    values: dict[str, list[float]] = {}
    for (question, _), all_right in right.items():
        values.setdefault(question, []).append(float(all_right))
    return mean_over_questions(task, f"{name}_circular", values, repeats)


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
    counts = {len(sample.choices) for sample in samples if sample.choices}
    kind, values = _kind(name, asked.scorers[name]), by_question(samples, name)
    more: dict[str, Any] = {"is_primary": name == next(iter(asked.scorers))}
    if kind == "choice" and len(counts) == 1:
        more["chance"] = 1 / counts.pop()
    if kind == "ter":  # which has no end
        more |= {"value": None, "harness_scale": None, "higher_is_better": False}
    return mean_over_questions(task, name, values, repeats, **more)
