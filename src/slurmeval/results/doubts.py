"""What an evaluation's answers say of how sure its score is: doubtful ones, and those to one question."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmeval.errors import UserError
from slurmeval.results.kept import Kept, fingerprint
from slurmeval.results.questions import Row, read_answers, samples_of
from slurmeval.statistics.readings import Readings, readings

if TYPE_CHECKING:
    import pyarrow as pa

_MEAN_TOLERANCE = 5e-4
"""How far the samples' mean may lie from the harness's score for bounds of that score to be told."""


@dataclass(frozen=True)
class Doubt:
    """What an evaluation's answers say of how sure its score is."""

    counts: Mapping[str, int]
    readings: Readings | None
    passes: tuple[int, float, float] | None = None
    """Answers to each question, and how many questions have one right, or all; None: not right or wrong."""


class Doubts:
    """Of each evaluation, from its answers. They are read but once, and what they say is kept."""

    def __init__(self, results: Path) -> None:
        """Knows what is kept of a results folder."""
        self._results, self._kept = results, Kept(results, "doubts")
        self._found: dict[tuple[str, str], Doubt | None] = {}

    def read(self, metric: Row) -> pa.Table:
        """Returns an evaluation's answers, and keeps what they say. Raises as `read_answers` does."""
        of = self._fingerprint(metric)  # before: answers may be replaced meanwhile
        answers = read_answers(self._results, metric)
        key = metric["model"], metric["benchmark"]
        if not self._is_known(metric):
            self._found[key] = found = _doubt(answers, metric) if len(answers) else None
            self._kept.put(" ".join(key), of, [found and asdict(found)])
        return answers

    def of(self, metric: Row) -> Doubt | None:
        """Returns what the answers say; None: they are not there, or do not carry the metric."""
        key = metric["model"], metric["benchmark"]
        if not self._is_known(metric):
            try:
                self.read(metric)
            except UserError:  # deleted: the score stands in `metrics` all the same
                self._found[key] = None
        return self._found[key]

    def keep(self) -> None:
        """Keeps what was found for later calls."""
        self._kept.save()

    def _fingerprint(self, metric: Row) -> str | None:
        return fingerprint([samples_of(self._results, metric)], metric)

    def _is_known(self, metric: Row) -> bool:
        key = metric["model"], metric["benchmark"]
        if key not in self._found:
            kept = self._kept.get(" ".join(key), self._fingerprint(metric))
            if kept is None:
                return False
            self._found[key] = _restored(kept[0])
        return True


def _restored(kept: dict[str, Any] | None) -> Doubt | None:
    if kept is None:
        return None
    read, passes = kept["readings"], kept["passes"]
    return Doubt(kept["counts"], read and Readings(**read), passes and tuple(passes))


def _doubt(answers: pa.Table, metric: Row) -> Doubt:
    counts = {name: int(answers[name].to_numpy().sum()) for name in ("errored", "unparsed", "cut")}
    read = None if finite(metric["value"]) is None else _readings(answers, metric)
    again = (metric["n_repeats"] or 1) > 1 or len(answers) > (metric["n_items"] or len(answers))
    return Doubt(counts, read, _passes(answers) if again else None)


def _passes(answers: pa.Table) -> tuple[int, float, float] | None:
    """Returns k, pass@k and pass^k where every question was answered k times, more than once."""
    import numpy as np

    values = answers["value"].to_numpy().astype(float)
    if not np.isin(values, (0.0, 1.0)).all():
        return None
    of = answers.group_by("sample_uid").aggregate([("value", "sum"), ("value", "count")])
    counts, right = of["value_count"].to_numpy(), of["value_sum"].to_numpy()
    k = int(counts[0])
    if k < 2 or (counts != k).any():
        return None
    return k, float((right > 0).mean()), float((right == k).mean())


def finite(value: float | None) -> float | None:
    """Returns a number, or None where it is none."""
    return None if value is None or not math.isfinite(value) else value


def _readings(answers: pa.Table, metric: Row) -> Readings | None:
    """Returns the bounds of a score; None where it is no mean of answers' scores between 0 and 1.

    Of a mean over tasks, each task's bounds are averaged.
    """
    import numpy as np

    values = answers["value"].to_numpy().astype(float)
    doubtful = np.logical_or.reduce([answers[name].to_numpy() for name in ("errored", "unparsed", "cut")])
    scored = np.isfinite(values)
    if not scored.any() or values[scored].min() < 0 or values[scored].max() > 1:
        return None
    parts = [np.ones(len(values), bool)]
    if metric["mean_of"]:
        tasks = answers["task"].to_numpy().astype(str)
        parts = [tasks == task for task in np.unique(tasks)]
    means = [float(values[part & scored].mean()) for part in parts if (part & scored).any()]
    if abs(math.fsum(means) / len(means) - metric["value"]) > _MEAN_TOLERANCE:
        return None
    found = [readings(values[part], doubtful[part]) for part in parts]
    left_out = [each.left_out for each in found if each.left_out is not None]
    return Readings(
        sum(each.n_doubtful for each in found),
        math.fsum(each.wrong for each in found) / len(found),
        math.fsum(left_out) / len(found) if len(left_out) == len(found) else None,
        math.fsum(each.right for each in found) / len(found),
    )
