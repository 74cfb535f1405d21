"""Scores by a judge: with their bounds, corrected by people, and with length and style held equal."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from slurmeval.harnesses.judge.harness import WIN_RATE
from slurmeval.harnesses.judge.run import NO_ANSWER
from slurmeval.judges.reading import StoredVerdict
from slurmeval.results.statistics import count_as_clusters
from slurmeval.statistics import bradley_terry
from slurmeval.statistics.corrected import LEAST_LABELLED, accuracy, prediction_powered, rogan_gladen
from slurmeval.statistics.intervals import Interval, estimate
from slurmeval.statistics.win_rates import SAME, length_feature, share_feature, win_rate

if TYPE_CHECKING:
    from slurmeval.harnesses.judge.labels import Key, Labelled
    from slurmeval.harnesses.judge.rubrics import Rubric
    from slurmeval.statistics.intervals import Floats, Labels

Row = dict[str, Any]
_T = TypeVar("_T")

NOT_RANDOM = "the labelled answers are no random sample"
_STYLES = (
    re.compile(r"^ {0,3}#{1,6}\s", re.MULTILINE),
    re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s", re.MULTILINE),
    re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
)
"""Headers, items of lists, bold text."""


def score_rows(verdicts: Sequence[StoredVerdict], labelled: Labelled, rubric: Rubric) -> Iterator[Row]:
    """Yields a row of `judged` for each model and dimension, without what is the same in all."""
    by_model: dict[str, list[StoredVerdict]] = defaultdict(list)
    for verdict in verdicts:
        by_model[verdict.model].append(verdict)
    names = list(dict.fromkeys(name for verdict in verdicts for name in verdict.values)) or list(rubric)
    strengths = _strengths(by_model) if WIN_RATE in names else {}
    for model, own in by_model.items():
        for name in names:
            row = {"model": model, "dimension": name, **_raw(own, name)}
            row |= _corrected(own, name, labelled, rubric, row["value_judge"])
            if name == WIN_RATE:
                row |= _controlled(own) | strengths.get(model, {})
            yield row


def question_means(verdicts: Sequence[StoredVerdict], name: str) -> dict[str, float]:
    """Returns the mean of each question's verdicts that could be read."""
    return _means(verdicts, name, lambda verdict: verdict.question)


def _raw(verdicts: Sequence[StoredVerdict], name: str) -> Row:
    """Returns what the judge says, and what its unscored verdicts leave open."""
    means = question_means(verdicts, name)
    scored = sum(verdict.values.get(name) is not None for verdict in verdicts)
    unjudged = sum(verdict.status == "error" for verdict in verdicts)
    row: Row = {
        "n_answers": len(verdicts),
        "n_scored": scored,
        "n_unreadable": len(verdicts) - scored - unjudged,
        "n_unjudged": unjudged,
        "n_questions": len(means),
        "value_judge": statistics.fmean(means.values()) if means else None,
    }
    if means:
        row |= _ends(
            "ci", estimate(np.array(list(means.values())), _clusters(verdicts, list(means))).interval
        )
    row |= _again(verdicts, name)
    missing = len(verdicts) - scored
    if missing:
        low, high = (_bound(verdicts, name, value) for value in (0.0, 1.0))
        row |= {"bound_lo": low, "bound_hi": high}
    return row


def _clusters(verdicts: Sequence[StoredVerdict], questions: Sequence[str]) -> Labels:
    """Returns the cluster of each of these questions: its category, if there are enough, or it alone."""
    categories = {verdict.question: verdict.category for verdict in verdicts}
    named = [categories[question] or question for question in questions]
    counted = count_as_clusters(len(set(named)), len(set(questions)), linked=False)
    return numbered(named if counted else questions)


def _again(verdicts: Sequence[StoredVerdict], name: str) -> Row:
    """Returns how far asking again would move the score: the judge alone, and the model and the judge.

    Standard errors from the variance of verdicts on one answer (s²), and of the answers to one question (t²),
    each as if it were the same in all: s·√(Σ 1/verdicts)/Q and t·√(Σ 1/answers)/Q over Q questions.
    """
    by_question: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for verdict in verdicts:
        if (value := verdict.values.get(name)) is not None:
            by_question[verdict.question][verdict.of_repeat].append(value)
    questions = [list(answers.values()) for answers in by_question.values()]
    of_judge = _pooled([given for answers in questions for given in answers])
    of_both = _pooled([[statistics.fmean(given) for given in answers] for answers in questions])
    row: Row = {}
    if of_judge is not None:
        counts = [sum(map(len, answers)) for answers in questions]
        row["judge_se"] = of_judge * math.sqrt(sum(1 / count for count in counts)) / len(questions)
    if of_both is not None:
        row["rerun_se"] = of_both * math.sqrt(sum(1 / len(answers) for answers in questions)) / len(questions)
    return row


def _pooled(groups: Sequence[Sequence[float]]) -> float | None:
    """Returns the standard deviation within groups; None: each has one value."""
    several = [group for group in groups if len(group) > 1]
    degrees = sum(len(group) - 1 for group in several)
    squares = sum(statistics.variance(group) * (len(group) - 1) for group in several)
    return math.sqrt(squares / degrees) if degrees else None


def _bound(verdicts: Sequence[StoredVerdict], name: str, missing: float) -> float:
    """Returns the score with a value in the place of every one that is missing."""
    values: dict[str, list[float]] = defaultdict(list)
    for verdict in verdicts:
        value = verdict.values.get(name)
        values[verdict.question].append(missing if value is None else value)
    return statistics.fmean(statistics.fmean(each) for each in values.values())


def answer_means(verdicts: Sequence[StoredVerdict], name: str) -> dict[Key, float]:
    """Returns the mean of the verdicts on each answer."""
    return _means(verdicts, name, lambda verdict: verdict.answer)


def _means(
    verdicts: Sequence[StoredVerdict], name: str, of: Callable[[StoredVerdict], _T]
) -> dict[_T, float]:
    values: dict[_T, list[float]] = defaultdict(list)
    for verdict in verdicts:
        if (value := verdict.values.get(name)) is not None:
            values[of(verdict)].append(value)
    return {each: statistics.fmean(found) for each, found in values.items()}


def _corrected(
    verdicts: Sequence[StoredVerdict], name: str, labelled: Labelled, rubric: Rubric, raw: float | None
) -> Row:
    """Returns the score corrected by people, or why there is none."""
    read, labels = answer_means(verdicts, name), labelled.values.get(name, {})
    # An answer whose verdict cannot be read is one of all, too: any value will do, as long as it is no label
    middle = statistics.fmean(read.values()) if read else 0.5
    judged = {each.answer: read.get(each.answer, middle) for each in verdicts if each.error != NO_ANSWER}
    known = [answer for answer in judged if answer in labels]
    row: Row = {"n_labelled": len(known)}
    others = [answer for answer in judged if answer not in labels]
    if not known:
        return row | {"uncorrected": labelled.lacking}
    if not labelled.random:
        return row | {"uncorrected": NOT_RANDOM}
    if len(known) < LEAST_LABELLED:
        return row | {"uncorrected": f"{len(known)} labelled answers; at least {LEAST_LABELLED} are needed"}
    if len(others) < 2:
        return row | {"uncorrected": "all answers are labelled: people's own mean is the score"}
    groups = _clusters(verdicts, [answer[1] for answer in [*known, *others]])
    said, given = (
        np.array([judged[answer] for answer in known]),
        np.array([labels[answer] for answer in known]),
    )
    rest = np.array([judged[answer] for answer in others])
    found = prediction_powered(given, said, rest, None, groups[: len(known)], groups[len(known) :])
    row |= {"value_corrected": min(1.0, max(0.0, found.value)), "weight": found.weight}
    row |= _ends("corrected", _cut(found.interval))
    if name in rubric and len(rubric[name].grades) == 2 and raw is not None:
        both = np.array([answer in read for answer in known])
        how_right = accuracy((given[both] > 0.5).astype(float), (said[both] > 0.5).astype(float))
        by_rates = None if how_right is None else rogan_gladen(raw, len(read), how_right)
        if by_rates is not None:
            row |= {"value_rogan_gladen": by_rates.value, **_ends("rogan_gladen", by_rates.interval)}
    return row


def _cut(interval: Interval) -> Interval:
    return Interval(max(0.0, interval.low), min(1.0, interval.high), interval.method)


def _controlled(verdicts: Sequence[StoredVerdict]) -> Row:
    """Returns the win rate at equal length, and at equal length and style."""
    own = [each for each in verdicts if each.values.get(WIN_RATE) is not None and each.against is not None]
    if not own:
        return {}
    wins = np.array([each.values[WIN_RATE] for each in own], float)
    prompts = _clusters(own, [each.question for each in own])
    lengths = length_feature(*(_counts(own, None)))
    styles = [share_feature(*_counts(own, style)) for style in _STYLES]
    by_length = win_rate(wins, lengths[:, None], prompts)
    by_style = win_rate(wins, np.column_stack([lengths, *styles]), prompts)
    row: Row = {
        "value_controlled": by_length.controlled,
        **_ends("controlled", by_length.controlled_interval),
    }
    return row | {"value_style": by_style.controlled, **_ends("style", by_style.controlled_interval)}


def _counts(verdicts: Sequence[StoredVerdict], style: re.Pattern[str] | None) -> tuple[Floats, Floats]:
    """Returns how often a style is in the judged answers and in the others; None: their lengths."""
    texts = [(verdict.judged, verdict.against or "") for verdict in verdicts]
    counts = [[len(text) if style is None else len(style.findall(text)) for text in pair] for pair in texts]
    first, second = np.array(counts, float).T
    return first, second


def _strengths(by_model: Mapping[str, Sequence[StoredVerdict]]) -> dict[str, Row]:
    """Returns Bradley–Terry's strengths, where the model that all are compared with has 0."""
    models = list(by_model)
    means = [question_means(own, WIN_RATE) for own in by_model.values()]
    prompts = {question: None for each in means for question in each}
    places = {question: number for number, question in enumerate(prompts)}
    wins = np.zeros((len(prompts), len(models) + 1, len(models) + 1))
    for place, each in enumerate(means):
        for question, value in each.items():
            wins[places[question], place, -1] = value
            wins[places[question], -1, place] = 1 - value
    total = wins.sum(axis=0)
    if not prompts or bradley_terry.undecided(total):
        return {}
    found, within = bradley_terry.strengths(total), bradley_terry.intervals(wins, against=len(models))
    return {
        model: {"strength": float(found[place] - found[-1]), **_ends("strength", interval)}
        for place, (model, interval) in enumerate(zip(models, within[:-1], strict=True))
    }


def numbered(names: Sequence[object]) -> Labels:
    """Returns a number for each name, the same for the same."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names])


def _ends(name: str, interval: Interval | None) -> Row:
    if interval is None or math.isnan(interval.low) or interval.high - interval.low < SAME:
        return {}
    return {f"{name}_lo": interval.low, f"{name}_hi": interval.high}
