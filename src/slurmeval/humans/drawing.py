"""A random sample of stored answers, stratified by benchmark and category."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from slurmeval.config.study import HumanStudy
from slurmeval.errors import UserError
from slurmeval.results import frames
from slurmeval.results.comparison import ended_well
from slurmeval.statistics.intervals import MIN_QUESTIONS

ASSUMED_SD = 1.2
"""Of grades from 1 to 5 over questions, to work out how many are needed. 2 is the largest possible."""
FAR_APART = 0.5
"""Jurors' votes on 0 to 1, as the rubric's grades are."""
_VERDICTS = ["native_id", "status", "metadata_json"]
_TEXTS = ("input", "choices", "reference", "output")
_Key = tuple[str, int]
"""`sample_uid` and `repeat_idx`."""


@dataclass(frozen=True)
class DrawnQuestion:
    """A question with the stored answers of all models of a study."""

    benchmark: str
    sample_uid: str
    repeat_idx: int
    probability: float | None
    """With which it was drawn; None: not at random."""
    question: str
    choices: list[str] | None
    reference: str | None
    answers: dict[str, str]
    """By model."""


@dataclass(frozen=True)
class Stratum:
    """What a sample was drawn from."""

    benchmark: str
    population: int
    """Questions that all models answered."""
    drawn: int
    unsure: int = 0
    """Further ones, not at random: those that a judge is unsure of."""


def needed(study: HumanStudy, population: int) -> int:
    """Returns how many of a benchmark's questions give the wanted interval: n₀ = (1.96 sd/w)², n₀/(1+n₀/N).

    Fewer than MIN_QUESTIONS would get none. The standard deviation is ASSUMED_SD of grades, and 0.5 of wins,
    the largest possible.
    """
    assert study.half_width is not None, "checked with the study's file"
    sd = ASSUMED_SD if study.kind == "direct" else 0.5
    unlimited = (1.96 * sd / study.half_width) ** 2
    return min(population, max(MIN_QUESTIONS, math.ceil(unlimited / (1 + unlimited / population))))


def draw(results: Path, study: HumanStudy) -> tuple[list[DrawnQuestion], list[Stratum]]:
    """Draws questions at random, each of a benchmark with the same probability.

    Within a benchmark they are drawn in equal steps from a list ordered by category and otherwise at random,
    so that each category has its share (systematic sampling).

    Raises:
        UserError: A name is unknown, or too little was answered.
    """
    results = frames.results_folder(results)
    models, benchmarks = _named(results, study)
    populations = {each: _answered_by_all(results, models, each) for each in benchmarks}
    for benchmark, found in populations.items():
        if not found:
            raise UserError(f"{benchmark}: no question was answered by all of {', '.join(models)}")
    sizes = {benchmark: len(found) for benchmark, found in populations.items()}
    if study.questions is None:
        wanted = {benchmark: needed(study, size) for benchmark, size in sizes.items()}
    else:
        wanted = _spread(study.questions, sizes)
    unsure = set() if study.unsure_of is None else judged_unsurely(results, models, study.unsure_of)
    questions: list[DrawnQuestion] = []
    strata: list[Stratum] = []
    left = study.unsure_limit
    for benchmark, found in populations.items():
        rng = Random(f"{study.seed}:{study.name}:{benchmark}")
        keys = _systematic(found, wanted[benchmark], rng)
        more = sorted((unsure & found.keys()) - set(keys))
        more = rng.sample(more, min(left, len(more)))
        left -= len(more)
        at_random = dict.fromkeys(keys, wanted[benchmark] / len(found))
        questions += _with_texts(results, models, benchmark, at_random | dict.fromkeys(more))
        strata.append(Stratum(benchmark, len(found), wanted[benchmark], len(more)))
    return questions, strata


def judged_unsurely(results: Path, models: Sequence[str], judge: str) -> set[_Key]:
    """Returns the questions with an answer on which a judge gave no verdict that can be relied on.

    Its verdict could not be read, differs with the order of a pair, or its jurors are half the scale apart.

    Raises:
        UserError: The judge has no results of one of the models.
    """
    ended = ended_well(results)
    found: set[_Key] = set()
    for model in models:
        if (model, judge) not in ended:
            raise UserError(f"unsure_of: no results of {model} on '{judge}'")
        rows = frames.read_samples(results / "samples" / model / f"{judge}.parquet", _VERDICTS).to_pylist()
        for row in rows:
            told = json.loads(row["metadata_json"] or "{}")
            if "judged" not in told:
                raise UserError(f"unsure_of: '{judge}' is no benchmark of the harness judge")
            apart = [each for each in (told.get("disagreement") or {}).values() if each is not None]
            turned = told.get("verdicts") in (["A", "A"], ["B", "B"])
            if row["status"] != "ok" or turned or max(apart, default=0) >= FAR_APART:
                found.add((row["native_id"], int(told["repeat"])))
    return found


def _named(results: Path, study: HumanStudy) -> tuple[list[str], list[str]]:
    """Returns the study's models and benchmarks. Raises UserError on those without results."""
    ended = ended_well(results)
    known = list(dict.fromkeys(model for model, _ in ended))
    for model in study.models:
        if model not in known:
            raise UserError(
                f"models: no results of '{model}'; with results in {results}: {', '.join(known) or 'none'}"
            )
    models = study.models or known
    least = 1 if study.kind == "direct" else 2
    if len(models) < least:
        raise UserError(f"models: a {study.kind} study needs at least {least}; there are: {', '.join(known)}")
    of_all = [each for model, each in ended if model == models[0]]
    of_all = [each for each in of_all if all((model, each) in ended for model in models)]
    for benchmark in study.benchmarks:
        if benchmark not in of_all:
            raise UserError(
                f"benchmarks: '{benchmark}' has no results of all of {', '.join(models)}; "
                f"these have: {', '.join(of_all) or 'none'}"
            )
    if not of_all:
        raise UserError(f"benchmarks: none has results of all of {', '.join(models)}")
    return models, study.benchmarks or of_all


def _answered_by_all(results: Path, models: Sequence[str], benchmark: str) -> dict[_Key, str]:
    """Returns the category of each question that all models answered, by its key."""
    found: dict[_Key, str] | None = None
    for model in models:
        path = results / "samples" / model / f"{benchmark}.parquet"
        columns = ["sample_uid", "repeat_idx", "category", "task", "status"]
        rows = frames.read_samples(path, columns).to_pylist()
        theirs = {
            (row["sample_uid"], row["repeat_idx"]): row["category"] or row["task"] or ""
            for row in rows
            if row["status"] != "error"
        }
        found = theirs if found is None else {key: name for key, name in found.items() if key in theirs}
    return found or {}


def _spread(total: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """Returns how many to take of each: the same of all, as far as they have so many; at least one."""
    left, taken = max(total, len(sizes)), dict.fromkeys(sizes, 0)
    while left and (open_ := [name for name in sizes if taken[name] < sizes[name]]):
        share = max(1, left // len(open_))
        for name in open_[:left]:
            more = min(share, sizes[name] - taken[name])
            taken[name] += more
            left -= more
    return taken


def _systematic(population: Mapping[_Key, str], count: int, rng: Random) -> list[_Key]:
    keys = sorted(population)
    rng.shuffle(keys)
    keys.sort(key=lambda key: population[key])
    step = len(keys) / count
    start = rng.random() * step
    return [keys[min(len(keys) - 1, int(start + step * number))] for number in range(count)]


def _with_texts(
    results: Path, models: Sequence[str], benchmark: str, drawn: Mapping[_Key, float | None]
) -> list[DrawnQuestion]:
    """Returns drawn questions, given with their probabilities. Each model's texts are read once."""
    texts = {}
    for model in models:
        path = results / "samples" / model / f"{benchmark}.parquet"
        for rows in frames.sample_groups(path, ["sample_uid", "repeat_idx", *_TEXTS]):
            for row in rows.to_pylist():
                key = row["sample_uid"], row["repeat_idx"]
                if key in drawn:
                    texts[model, key] = row
    return [
        DrawnQuestion(
            benchmark,
            *key,
            probability,
            texts[models[0], key]["input"] or "",
            texts[models[0], key]["choices"],
            texts[models[0], key]["reference"],
            {model: texts[model, key]["output"] or "" for model in models},
        )
        for key, probability in drawn.items()
    ]
