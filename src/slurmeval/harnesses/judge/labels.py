"""People's grades of stored answers, from a file, as a judge is held against them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurmeval.config.judging import Judging, Labels, RubricDimension
from slurmeval.errors import UserError
from slurmeval.harnesses.custom.questions import rows

NEEDED = ("model", "sample_uid", "value")
WORDS = {"win": 1.0, "tie": 0.5, "loss": 0.0}
YES = ("1", "true", "yes")

Key = tuple[str, str, int]
"""Model, sample_uid, repeat_idx of the judged answer."""


@dataclass(frozen=True)
class Labelled:
    """All labels in a file."""

    values: Mapping[str, Mapping[Key, float]] = field(default_factory=dict)
    """By dimension: the mean of the raters' grades of each answer, on 0 to 1."""
    random: bool = False
    """Whether the labelled answers are a random sample."""


def read_labels(judging: Judging, rubric: Mapping[str, RubricDimension], project: Path) -> Labelled:
    """Returns the labels that a judge's benchmark names; none where it names none.

    Raises:
        UserError: The file or a row will not do; the text names both.
    """
    labels = judging.labels
    if labels is None:
        return Labelled()
    file = project / labels.file
    found: list[tuple[bool, str | None, Key, float | None]] = []
    try:
        for place, row in rows(file):
            if not _counts(row, judging):
                continue
            try:
                name, key, value = _label(row, judging, rubric)
            except UserError as error:
                raise UserError(f"{file.name}, {place}: {error}") from None
            found.append((_is_random(row, labels), name, key, value))
    except UserError as error:
        raise UserError(f"judging.labels.file: {error}") from None
    # What a judge was unsure of may be among them: the others alone are a sample of all
    at_random = any(drawn for drawn, *_ in found)
    given: dict[str, dict[Key, list[float]]] = {}
    for drawn, name, key, value in found:
        if drawn == at_random and name is not None and value is not None:
            given.setdefault(name, {}).setdefault(key, []).append(value)
    means = {
        name: {key: statistics.fmean(values) for key, values in answers.items()}
        for name, answers in given.items()
    }
    return Labelled(means, at_random)


def _counts(row: Mapping[str, Any], judging: Judging) -> bool:
    """Returns whether a row is about the answers that are judged, and no second look at one."""
    of_these = row.get("benchmark") in (None, "", judging.of)
    return of_these and _compares(row, judging) and not _says_yes(row.get("again"))


def _compares(row: Mapping[str, Any], judging: Judging) -> bool:
    """Returns whether a row is on one answer where one is judged, and on the same pair where two are."""
    other = row.get("against") or None
    if judging.mode == "direct":
        return other is None
    return other is None or judging.against in (other, row.get("model"))


def _label(
    row: Mapping[str, Any], judging: Judging, rubric: Mapping[str, RubricDimension]
) -> tuple[str | None, Key, float | None]:
    """Returns dimension, answer and value of a row; no dimension: the judge does not grade it."""
    lacking = [name for name in NEEDED if name not in row]
    if lacking:
        raise UserError(f"the column {lacking[0]} is missing; expected {', '.join(NEEDED)}")
    if row["model"] in (None, "") or row["sample_uid"] in (None, ""):
        raise UserError("model or sample_uid is empty")
    try:
        repeat = int(row.get("repeat_idx") or 0)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"repeat_idx is {row['repeat_idx']!r:.40}, no whole number") from None
    key = str(row["model"]), str(row["sample_uid"]), repeat
    dimension = row.get("dimension") or None
    if judging.mode == "pairwise":
        if dimension not in (None, "preference", "win_rate"):
            return None, key, None
        value = _comparison(row["value"])
        if row["model"] == judging.against and not row.get("against"):
            raise UserError(f"against is empty; expected what {row['model']} was compared with")
        if row["model"] == judging.against:  # the pair was shown the other way round
            return "win_rate", (str(row["against"]), *key[1:]), None if value is None else 1 - value
        return "win_rate", key, value
    name = str(dimension or next(iter(rubric), ""))
    if name not in rubric:
        return None, key, None
    return name, key, _grade(row["value"], rubric[name])


def _comparison(value: Any) -> float | None:
    if value in (None, ""):
        return None
    number = WORDS.get(str(value).lower())
    if number is None:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = -1.0
    if not 0 <= number <= 1:
        raise UserError(f"the value {value!r:.40} is none of win, tie, loss, or 1, 0.5, 0")
    return number


def _grade(value: Any, dimension: RubricDimension) -> float | None:
    """Returns a grade on 0 to 1; None: the rater gave none."""
    if value in (None, ""):
        return None
    low, high = min(dimension.meanings), max(dimension.meanings)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not low <= number <= high:
        raise UserError(f"the value {value!r:.40} is none of the grades {low} to {high}")
    return dimension.value(number)


def _is_random(row: Mapping[str, Any], labels: Labels) -> bool:
    """Returns whether an answer was drawn at random: as the config says, or the file of it."""
    return labels.random if labels.random is not None else _says_yes(row.get("random"))


def _says_yes(value: Any) -> bool:
    return value is True or str(value).lower() in YES
