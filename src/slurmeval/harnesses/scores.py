"""Numbers as harnesses write them, and the choice of the leading score."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses import scales
from slurmeval.harnesses.base import Metric, Sample

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?")
_TOLERANCE = 1e-9
"""Sums of floating-point numbers end a little beside 0 and 1."""


def number(value: Any) -> float | None:
    """Returns a finite number, or None: harnesses also write "N/A", NaN and lists."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond any float
        return None


def unquoted(value: Any) -> Any:
    """Returns the number or the boolean that lm-eval wrote as text; anything else as it is.

    What JSON does not know it writes by `str`: numpy's booleans, and all its numbers but float64 and int64.
    """
    if type(value) is not str:
        return value
    if value in ("True", "False"):
        return value == "True"
    return float(value) if _NUMBER.fullmatch(value) else value


def proportion(value: float | None, scale: int | None) -> float | None:
    """Returns `value` on 0 to 1; None where it has no `scale`, or is off its scale."""
    if value is None or scale is None or not -_TOLERANCE <= value / scale <= 1 + _TOLERANCE:
        return None
    return min(max(value / scale, 0.0), 1.0)


def unmeasured(numbers: Mapping[str, Any]) -> str:
    """Returns what harnesses wrote instead of numbers, for a message: `: acc is NaN`; empty: nothing."""
    said = [f"{name} is {json.dumps(raw, default=str)}" for name, raw in numbers.items()]
    return f": {'; '.join(said[:3])}" if said else ""


def mark_primary(metrics: Sequence[Metric], task: str, parts: Sequence[str] = ()) -> None:
    """Marks the one metric that stands for the evaluation: of the task, or of its only part.

    The names say which one, so that it is the same for every model. None leads where there are several parts.
    """
    names = [task, *parts] if len(parts) == 1 else [task]
    for name in names:
        own = [metric for metric in metrics if metric.task == name]
        place = scales.leading([(metric.metric, metric.harness_scale) for metric in own])
        if place is not None:
            own[place].is_primary = True
            return


def wholes(metrics: Sequence[Metric]) -> list[str]:
    """Returns what an evaluation is made of, as far as its scores say it: the groups, or else the tasks."""
    groups = [metric.task for metric in metrics if metric.is_group]
    return list(dict.fromkeys(groups or [metric.task for metric in metrics]))


def mean_over(metrics: Sequence[Metric], task: str, parts: Sequence[str]) -> Metric | None:
    """Returns the mean of the parts' leading scores, equally weighted, where there is no score of the whole.

    None where there is one, or where the parts are not led by one and the same proportion.
    """
    if len(parts) < 2 or any(metric.task == task for metric in metrics):
        return None
    leading = []
    for part in parts:
        own = [metric for metric in metrics if metric.task == part]
        place = scales.leading([(metric.metric, metric.harness_scale) for metric in own])
        leading += [] if place is None else [own[place]]
    if len({(row.metric, row.filter) for row in leading}) != 1 or leading[0].harness_scale is None:
        return None
    values, errors = [row.value for row in leading], [row.se for row in leading]
    counts, chances = [row.n_items for row in leading], [row.chance for row in leading]
    senses = {row.higher_is_better for row in leading}
    return Metric(
        task=task,
        metric=leading[0].metric,
        filter=leading[0].filter,
        value=_mean(values),
        harness_value=None,
        se=None if None in errors else math.hypot(*(error or 0.0 for error in errors)) / len(errors),
        n_items=None if None in counts else sum(count or 0 for count in counts),
        n_repeats=leading[0].n_repeats,
        higher_is_better=senses.pop() if len(senses) == 1 else None,
        is_group=True,
        mean_of=[row.task for row in leading],
        chance=_mean(chances),
    )


def mean_over_questions(
    task: str, metric: str, values: Mapping[str, Sequence[float]], n_repeats: int, **more: Any
) -> Metric:
    """Returns the mean over questions of the mean over the values of each, and its standard error.

    Args:
        task: The metric's task.
        metric: Its name.
        values: By question, 0 to 1.
        n_repeats: How often each was asked.
        more: Further fields of the metric.
    """
    means = [statistics.fmean(each) for each in values.values()]
    mean = statistics.fmean(means) if means else None
    error = statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else None
    return Metric(
        **{"task": task, "metric": metric, "value": mean, "harness_value": mean, "se": error}
        | {"n_items": len(means), "n_repeats": n_repeats}
        | more
    )


def by_question(samples: Sequence[Sample], metric: str) -> dict[str, list[float]]:
    """Returns the values of a metric by question, of the samples that have one."""
    found: dict[str, list[float]] = {}
    for sample in samples:
        for score in sample.scores:
            if score.metric == metric and score.value is not None:
                found.setdefault(sample.native_id, []).append(score.value)
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None


def bad_result(reason: str) -> EvaluationFailed:
    """Returns the failure of an evaluation whose harness wrote what cannot be trusted."""
    return EvaluationFailed(ErrorClass.BAD_RESULT, reason)
