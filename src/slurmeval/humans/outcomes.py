"""What people's ratings say of models: means, differences, shares of wins, Bradley–Terry strengths."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slurmeval.config.study import PREFERENCE, SCALE
from slurmeval.humans.reading import MergedRatings, RatedItem, first_times
from slurmeval.statistics import bradley_terry, pairs
from slurmeval.statistics.intervals import Interval, estimate

_Question = tuple[str | None, str | None, int]


@dataclass(frozen=True)
class MeanRating:
    """A model's mean over questions: of grades, or the share of wins against another (ties half)."""

    benchmark: str
    model: str
    against: str | None
    """The other model of pairs; None: grades."""
    name: str
    """The dimension, or `preference`."""
    value: float
    n_questions: int
    n_ratings: int
    interval: Interval | None
    """Over questions; the raters are taken as they are."""
    refusal: str | None
    """Why there is no interval."""


@dataclass(frozen=True)
class RatingDifference:
    """The difference of two models' grades on the same questions, A − B."""

    benchmark: str
    name: str
    a: str
    b: str
    value: float
    n: int
    interval: Interval | None
    p_value: float | None
    verdict: str


@dataclass(frozen=True)
class ModelStrength:
    """A model's place among all that were compared, on Elo's scale around 1000."""

    model: str
    elo: float | None
    """None: somebody always won or always lost, so that no finite strengths are the likeliest."""
    interval: Interval | None
    n: int
    """Ratings."""


def means(merged: MergedRatings) -> list[MeanRating]:
    """Returns each model's mean by benchmark and dimension, or by the model that it was compared with."""
    import numpy as np

    found = []
    for (benchmark, model, against, name), questions in _by_question(merged).items():
        values = np.array([statistics.fmean(each) for each in questions.values()])
        # On 0 to 1: so the interval stays on the scale, and has a width where all grades are the same
        low, width = (SCALE[0], SCALE[-1] - SCALE[0]) if against is None else (0, 1)
        told = estimate((values - low) / width)
        within = told.interval
        count = sum(map(len, questions.values()))
        found.append(
            MeanRating(
                *(benchmark, model, against, name, low + width * told.value, told.n, count),
                within and Interval(low + width * within.low, low + width * within.high, within.method),
                told.refusal,
            )
        )
    return sorted(found, key=lambda each: (each.benchmark, each.name, each.model, each.against or ""))


def _by_question(
    merged: MergedRatings,
) -> dict[tuple[str, str, str | None, str], dict[_Question, list[float]]]:
    """Returns ratings by benchmark, model, other model and name, then by question."""
    found: dict[tuple[str, str, str | None, str], dict[_Question, list[float]]] = {}
    for item in first_times(merged):
        unit = merged.batch.units[item.item.unit]
        if unit.probability is None:  # what a judge is unsure of is no sample of all
            continue
        question = unit.benchmark, unit.sample_uid, unit.repeat_idx
        for model, against, name, value in _seen(unit.models, item):
            key = unit.benchmark or "", model, against, name
            found.setdefault(key, {}).setdefault(question, []).append(value)
    return found


def _seen(models: Sequence[str], item: RatedItem) -> Iterator[tuple[str, str | None, str, float]]:
    if len(models) == 1:
        yield from ((models[0], None, name, value) for name, value in item.values.items())
    elif PREFERENCE in item.values:
        value = item.values[PREFERENCE]
        yield models[0], models[1], PREFERENCE, value
        yield models[1], models[0], PREFERENCE, 1 - value


def differences(merged: MergedRatings) -> list[RatingDifference]:
    """Returns the differences of each pair of models by benchmark and dimension (direct)."""
    import numpy as np

    by_model: dict[tuple[str, str], dict[str, dict[_Question, list[float]]]] = {}
    for (benchmark, model, against, name), questions in _by_question(merged).items():
        if against is None:
            by_model.setdefault((benchmark, name), {})[model] = questions
    found = []
    for (benchmark, name), models in sorted(by_model.items()):
        for a, b in itertools.combinations(sorted(models), 2):
            both = [key for key in models[a] if key in models[b]]
            if not both:
                continue
            of_a, of_b = (np.array([statistics.fmean(models[each][key]) for key in both]) for each in (a, b))
            told = pairs.difference(of_a, of_b)
            found.append(
                RatingDifference(
                    *(benchmark, name, a, b, told.value, told.n),
                    told.interval,
                    told.p_value,
                    told.verdict.value,
                )
            )
    return found


def strengths(merged: MergedRatings) -> list[ModelStrength]:
    """Returns the Bradley–Terry strengths of all models of a pairwise study, the strongest first."""
    import numpy as np

    items = [each for each in first_times(merged) if PREFERENCE in each.values]
    models = sorted({model for each in items for model in merged.batch.units[each.item.unit].models})
    if len(models) < 2 or merged.batch.declared.kind == "direct":
        return []
    units = merged.batch.units
    prompts = {(units[each.item.unit].benchmark, units[each.item.unit].sample_uid): 0 for each in items}
    prompts = {prompt: number for number, prompt in enumerate(prompts)}
    wins = np.zeros((len(prompts), len(models), len(models)))
    for each in items:
        unit = units[each.item.unit]
        a, b = (models.index(model) for model in unit.models)
        prompt = prompts[unit.benchmark, unit.sample_uid]
        wins[prompt, a, b] += each.values[PREFERENCE]
        wins[prompt, b, a] += 1 - each.values[PREFERENCE]
    total = wins.sum(axis=0)
    games = (total + total.T).sum(axis=1)
    if bradley_terry.undecided(total):
        return [
            ModelStrength(model, None, None, int(count)) for model, count in zip(models, games, strict=True)
        ]
    values, intervals = bradley_terry.strengths(total), bradley_terry.intervals(wins)
    scale = bradley_terry.ELO_PER_UNIT
    found = [
        ModelStrength(
            model,
            1000 + scale * float(value),
            within and Interval(1000 + scale * within.low, 1000 + scale * within.high, within.method),
            int(count),
        )
        for model, value, within, count in zip(models, values, intervals, games, strict=True)
    ]
    return sorted(found, key=lambda each: -(each.elo or 0))
