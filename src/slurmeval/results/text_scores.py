"""Stored answers scored against references by metrics of texts, without a server."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter

from slurmeval.errors import UserError
from slurmeval.files import read_json, write_json
from slurmeval.results import frames
from slurmeval.results.comparison import ended_well
from slurmeval.statistics.families import holm
from slurmeval.texts import scoring
from slurmeval.texts.scoring import AnswerScores, CorpusScore, MetricName, PairedScores, PairedTest, Tokenizer

FOLDER = "texts"
_COLUMNS = ["sample_uid", "repeat_idx", "output", "reference", "metadata_json", "status"]
_Key = tuple[str, int]
_Answers = dict[_Key, tuple[str, list[str]]]
EMBEDDED = ("bertscore", "similarity")
"""Metrics that need a model of their own (`texts.embedding`)."""
MEANS = ("rouge1", "rouge2", "rougeL", *EMBEDDED)
"""Metrics that are means over answers; the others are of all answers together."""
Embedded = Callable[[str, Mapping[Any, tuple[str, Sequence[str]]]], AnswerScores]


@dataclass(frozen=True)
class ModelTexts:
    """A model's scores on a benchmark."""

    model: str
    scores: list[CorpusScore]
    left_out: int
    """Samples without an answer or a reference."""


@dataclass(frozen=True)
class ComparedTexts:
    """Two models' scores on the questions that both answered."""

    a: str
    b: str
    n: int
    scores: PairedScores
    p_holm: float | None
    """Corrected over all pairs of models and metrics of the benchmark."""


@dataclass(frozen=True)
class BenchmarkTexts:
    """What metrics of texts say of a benchmark's answers."""

    benchmark: str
    models: list[ModelTexts]
    compared: list[ComparedTexts]


def score(
    results: Path,
    benchmark: str,
    metrics: Sequence[str],
    models: Sequence[str] = (),
    tokenize: Tokenizer = "13a",
    test: PairedTest = "bootstrap",
    embedded: Embedded | None = None,
) -> BenchmarkTexts:
    """Scores the answers to a benchmark that are stored, and compares each pair of models.

    `embedded` gives the scores of answers by metrics of `EMBEDDED`.

    Raises:
        UserError: A name is unknown, or there are no answers with references.
    """
    results = frames.results_folder(results)
    ended = [model for model, name in ended_well(results) if name == benchmark]
    for model in models:
        if model not in ended:
            raise UserError(f"no results of '{model}' on '{benchmark}'; of: {', '.join(ended) or 'none'}")
    read = {model: _answers(results, model, benchmark) for model in models or ended}
    if not read:
        known = dict.fromkeys(name for _, name in ended_well(results))
        raise UserError(f"unknown benchmark '{benchmark}'; with results: {', '.join(known) or 'none'}")
    scored, of_each = [], {}
    for model, (answers, left_out) in read.items():
        if not answers:
            raise UserError(f"{benchmark}: {model} has no answer to a question with a reference")
        given = {metric: _of_answers(metric, answers, embedded) for metric in metrics if metric in MEANS}
        of_each[model] = {
            metric: dict(zip(answers, each.values, strict=True)) for metric, each in given.items()
        }
        found = [
            scoring.mean_score(metric, given[metric])
            if metric in given
            else scoring.of_corpus(cast(MetricName, metric), *_columns(answers.values()), tokenize)
            for metric in metrics
        ]
        scored.append(ModelTexts(model, found, left_out))
    compared = list(
        _compared({model: found for model, (found, _) in read.items()}, of_each, metrics, tokenize, test)
    )
    tested = [each for each in compared if each.scores.p_value is not None]
    corrected = iter(holm([each.scores.p_value for each in tested if each.scores.p_value is not None]))
    compared = [
        each if each.scores.p_value is None else replace(each, p_holm=next(corrected)) for each in compared
    ]
    return BenchmarkTexts(benchmark, scored, compared)


def _answers(results: Path, model: str, benchmark: str) -> tuple[_Answers, int]:
    """Returns answers with their references, and how many samples have no such pair."""
    found: _Answers = {}
    left_out = 0
    path = results / "samples" / model / f"{benchmark}.parquet"
    for rows in frames.sample_groups(path, _COLUMNS):
        for row in rows.to_pylist():
            references = json.loads(row["metadata_json"] or "{}").get("references")
            if not isinstance(references, list) or not references:
                references = [row["reference"] or ""]
            references = [text for text in map(str, references) if text.strip()]
            if row["status"] == "error" or row["output"] is None or not references:
                left_out += 1
            else:
                found[row["sample_uid"], row["repeat_idx"]] = row["output"], references
    return found, left_out


def _compared(
    answers: Mapping[str, _Answers],
    of_each: Mapping[str, Mapping[str, Mapping[_Key, float]]],
    metrics: Sequence[str],
    tokenize: Tokenizer,
    test: PairedTest,
) -> Iterator[ComparedTexts]:
    """Yields how each pair of models differs; `of_each` has answers' scores by model and metric."""
    for a, b in itertools.combinations(answers, 2):
        keys = sorted(answers[a].keys() & answers[b].keys())
        for metric in metrics if keys else ():
            if metric in MEANS:
                values = ([of_each[model][metric][key] for key in keys] for model in (a, b))
                told = scoring.compared_means(metric, *values)
            else:
                of_a, references = _columns(answers[a][key] for key in keys)
                of_b, _ = _columns(answers[b][key] for key in keys)
                told = scoring.compared(cast(MetricName, metric), of_a, of_b, references, tokenize, test)
            yield ComparedTexts(a, b, len(keys), told, None)


def _columns(answers: Iterable[tuple[str, list[str]]]) -> tuple[list[str], list[list[str]]]:
    """Returns the texts of answers, and the references of each."""
    texts, references = zip(*answers, strict=True)
    return list(texts), list(references)


def _of_answers(metric: str, answers: _Answers, embedded: Embedded | None) -> AnswerScores:
    if metric not in EMBEDDED:
        return scoring.rouge_scores(cast(MetricName, metric), *_columns(answers.values()))
    assert embedded is not None, "checked with the command line"
    return embedded(metric, answers)


def write(results: Path, found: BenchmarkTexts) -> Path:
    """Writes scores to `texts/<benchmark>.json`, where the report finds them, and returns the file."""
    path = frames.results_folder(results) / FOLDER / f"{found.benchmark}.json"
    write_json(path, TypeAdapter(BenchmarkTexts).dump_python(found, mode="json"))
    return path


def read(results: Path) -> list[BenchmarkTexts]:
    """Returns all scores that were written."""
    found = (read_json(file) for file in sorted((results / FOLDER).glob("*.json")))
    return [TypeAdapter(BenchmarkTexts).validate_python(each) for each in found]
