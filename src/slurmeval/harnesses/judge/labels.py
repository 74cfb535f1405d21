"""People's grades of stored answers, from a file, as a judge is held against them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurmeval.config.judging import Judging, Labels, RubricDimension
from slurmeval.config.load import load_study
from slurmeval.config.study import SCALE, HumanStudy
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
    lacking: str = "nobody labelled any of these answers"
    """Why an answer may have no label."""


def labels_file(labels: Labels, project: Path, studies: Path) -> Path:
    """Returns the file of people's grades; that of a study is there once raters' files were read.

    Args:
        labels: What the config says of them.
        project: The folder that files in the config are relative to.
        studies: The folder of all studies in the results.

    Raises:
        UserError: The study's file will not do.
    """
    if labels.study is None:
        assert labels.file is not None, "checked with the config"
        return project / labels.file
    return studies / load_study(project / labels.study, project=project).name / "ratings.parquet"


def read_labels(
    judging: Judging, rubric: Mapping[str, RubricDimension], project: Path, studies: Path
) -> Labelled:
    """Returns the labels that a judge's benchmark names; none where it names none, or has none yet.

    Raises:
        UserError: The file or a row will not do; the text begins with the key and names both.
    """
    labels = judging.labels
    if labels is None:
        return Labelled()
    try:
        file = labels_file(labels, project, studies)
        if labels.study is not None:
            _check_fit(load_study(project / labels.study, project=project), judging, rubric)
    except UserError as error:
        raise UserError(f"judging.labels.study: {error}") from None
    if labels.study is not None and not file.exists():
        return Labelled(lacking=f"people have rated nothing yet: slurmeval humans make {labels.study}")
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
        source = "file" if labels.study is None else "study"
        raise UserError(f"judging.labels.{source}: {error}") from None
    if found and labels.study is None and not any(name for _, name, *_ in found):
        graded = f"expected one of {', '.join(rubric)}" if judging.mode == "direct" else "expected win_rate"
        raise UserError(f"judging.labels.file: {file.name}: no row's dimension is judged; {graded}")
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


def _check_fit(study: HumanStudy, judging: Judging, rubric: Mapping[str, RubricDimension]) -> None:
    """Raises UserError where a study's raters say nothing of what is judged."""
    if study.kind != judging.mode:
        raise UserError(f"its kind is {study.kind}, and what is judged is {judging.mode}")
    if study.benchmarks and judging.of is not None and judging.of not in study.benchmarks:
        raise UserError(f"its benchmarks are {', '.join(study.benchmarks)}, without '{judging.of}'")
    if judging.mode == "direct" and rubric and not rubric.keys() & study.dimensions.keys():
        known = f"{', '.join(study.dimensions)}; the rubric has {', '.join(rubric)}"
        raise UserError(f"none of its dimensions is judged: {known}")


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
    of_study = judging.labels is not None and judging.labels.study is not None
    low, high = (
        (SCALE[0], SCALE[-1]) if of_study else (min(rubric[name].meanings), max(rubric[name].meanings))
    )
    return name, key, _grade(row["value"], low, high)


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


def _grade(value: Any, low: int, high: int) -> float | None:
    """Returns a grade from `low` to `high` on 0 to 1; None: the rater gave none."""
    if value in (None, ""):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not low <= number <= high:
        raise UserError(f"the value {value!r:.40} is none of the grades {low} to {high}")
    return (number - low) / (high - low)


def _is_random(row: Mapping[str, Any], labels: Labels) -> bool:
    """Returns whether an answer was drawn at random: as its row says, else the config."""
    said = row.get("random")
    drawn = labels.random is True if said in (None, "") else _says_yes(said)
    return drawn and labels.random is not False


def _says_yes(value: Any) -> bool:
    return value is True or str(value).lower() in YES
