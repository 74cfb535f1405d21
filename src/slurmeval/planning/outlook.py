"""What a run will take where nothing like it has run, and which differences it can show, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from slurmeval.planning.estimate import estimate, questions, rehearsed
from slurmeval.planning.law import Span
from slurmeval.planning.summary import duration, hours_text
from slurmeval.wording import counted

if TYPE_CHECKING:
    from slurmeval.planning.plan import Plan

Pairs = Sequence[tuple[str, str]]

MOST_LINES = 20
QUESTIONS_VARIANCE = 1 / 9
"""Variance over questions of the difference of two models' true means (Miller 2411.00640, §5)."""
ANSWERS_VARIANCE = 1 / 6
"""Variance of a model's answers to one question, where each chance of a right one is as likely (the same)."""
HALVING = 4
"""Times the questions, for half the difference."""


def unmeasured(plan: Plan, planned: Pairs, ask_hub: bool) -> list[str]:
    """Returns lines on what servers will take of which not all is known from earlier runs."""
    found: list[str] = []
    lacking: dict[str | None, list[str]] = {}
    total, gpus_in_all = Span(0, 0), 0
    for model, pairs in plan.config.by_server(planned).items():
        names = [pair[1] for pair in pairs if plan.forecast.expected_s(*pair).seconds is None]
        starting = plan.forecast.starting_s(model).seconds is None
        if not names and not starting:
            continue
        told = estimate(plan, model, names, starting=starting, ask_hub=ask_hub)
        if told.seconds is None:
            lacking.setdefault(told.lacking, []).append(model)
            continue
        gpus = plan.forecast.gpus(model)
        gpus_in_all += gpus
        total += told.seconds.times(gpus / 3600)
        hours = f"{_hours(told.seconds, gpus)}, " if gpus else ""
        found.append(f"  {model}: {hours}{_durations(told.seconds)}")
    if len(found) > 1 and gpus_in_all:
        found = [*found[:MOST_LINES], f"  all: {_hours(total, 1, 1.0)}"]
    if found:
        title = (
            "Not measured, estimated from the models' sizes, the GPUs and the rehearsals (docs/planning.md):"
        )
        found.insert(0, title)
    for what, models in lacking.items():
        more = f" and {len(models) - 3} more" if len(models) > 3 else ""
        found.append(f"No estimate for {', '.join(models[:3])}{more}: it takes {what}.")
    return found


def visible(plan: Plan, planned: Pairs, ask_hub: bool) -> list[str]:
    """Returns a line for each rehearsed benchmark: what it can show, and what half of that costs."""
    found = []
    for benchmark in dict.fromkeys(benchmark for _, benchmark in planned):
        entry, seen = plan.config.benchmarks[benchmark], rehearsed(plan, benchmark)
        # Before its rehearsal it is not known of how many subtasks the limit is
        if seen is None or (asked := questions(entry, seen)) is None:
            continue
        whole = seen.questions
        text = f"  {benchmark}: {_points(asked, entry.repeats)} with {counted(asked, 'question')}"
        more = asked * HALVING
        if entry.limit is None or (whole is not None and whole <= asked):
            text += ", all that it has"
        elif whole is None or more <= whole:
            cost = _cost(plan, [model for model, name in planned if name == benchmark], benchmark, ask_hub)
            text += f"; {_points(more, entry.repeats)} with {more:,}, for {cost}"
        else:
            text += f"; {_points(whole, entry.repeats)} with all {whole:,}"
        found.append(text)
    if not found:
        return []
    title = "Difference between two models that it can show (80 % power), in points of the score:"
    rest = [f"  … and {len(found) - MOST_LINES} further benchmarks"] if len(found) > MOST_LINES else []
    return [title, *found[:MOST_LINES], *rest]


def smallest_difference(n_questions: int, repeats: int) -> float:
    """Returns the smallest difference of two models' scores that is detected with 80 % power, before a run.

    It supposes that questions and answers vary as in Miller 2411.00640, §5 (198 questions: .133 with one
    answer to each, .0757 with ten). Models that are alike differ in fewer questions, and show less.
    """
    from slurmeval.statistics.power import detectable

    variance = QUESTIONS_VARIANCE + 2 * ANSWERS_VARIANCE / repeats
    return detectable(math.sqrt(variance / n_questions))


def _points(n_questions: int, repeats: int) -> str:
    difference = smallest_difference(n_questions, repeats)
    return "none" if difference >= 1 else f"{100 * difference:.1f}"


def _cost(plan: Plan, models: Sequence[str], benchmark: str, ask_hub: bool) -> str:
    """Returns what the further questions take of all models."""
    gpu_hours, seconds, known = Span(0, 0), Span(0, 0), True
    for model in models:
        before = plan.forecast.expected_s(model, benchmark).seconds
        if before is None:
            told = estimate(plan, model, [benchmark], starting=False, ask_hub=ask_hub).seconds
        else:
            told = Span(before, before)
        if told is None:
            known = False
            continue
        further = told.times(HALVING - 1)
        seconds += further
        gpu_hours += further.times(plan.forecast.gpus(model) / 3600)
    if not seconds.high:
        return "a cost that is not known"
    least = "" if known else "at least "
    return f"{least}{_hours(gpu_hours, 1, 1.0) if gpu_hours.high else _durations(seconds)} more"


def _hours(span: Span, gpus: int, seconds: float = 3600.0) -> str:
    low, high = hours_text(span.low * gpus / seconds), hours_text(span.high * gpus / seconds)
    return f"{low} GPU-hours" if low == high else f"{low} to {high} GPU-hours"


def _durations(span: Span) -> str:
    low, high = duration(span.low), duration(span.high)
    return low if low == high else f"{low} to {high}"
