"""Error of a score: that of its questions and their clusters, an interval, and whether the mean is right."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from slurmeval.statistics.intervals import (
    LEVEL,
    MIN_CLUSTERS,
    MIN_QUESTIONS,
    Estimate,
    Part,
    effective_questions,
    effective_wilson,
    estimate,
    estimate_parts,
    standard_error,
    wilson,
)

if TYPE_CHECKING:
    import numpy as np

    from slurmeval.harnesses.base import Metric, Sample
    from slurmeval.statistics.intervals import Labels

_ROUNDING = 5e-5
"""Harnesses that round write two digits of a percentage; more than half of the last one is a difference."""
_NOTHING = 1e-9
"""What differs by less is equal: sums of floating-point numbers end in noise."""

_Key = tuple[str, str | None, str, str | None]
"""Task, subset, metric, filter."""


@dataclass(frozen=True)
class Spread:
    """The columns of `metrics` that say how sure a value is, and what it is to be compared with."""

    se: float | None = None
    se_method: str | None = None
    harness_se: float | None = None
    n_clusters: int | None = None
    rerun_se: float | None = None
    ci_lo: float | None = None
    ci_hi: float | None = None
    ci_level: float | None = None
    ci_method: str | None = None
    recomputed_value: float | None = None
    mismatch: bool | None = None
    chance: float | None = None


@dataclass(frozen=True)
class Questions:
    """What samples say of one metric: the mean of each question's answers."""

    means: Sequence[float] = ()
    binary: bool = False
    """Whether each question was answered once, and right or wrong."""
    chance: float | None = None
    """The share that is right by chance; None: the samples do not tell."""
    clusters: Labels | None = None
    """Cluster of each question; None: not known, or too few to be more than the benchmark's make-up."""
    rerun_se: float | None = None
    """Standard error of the mean if the same questions were asked again; None: each was answered once."""
    parts: tuple[Part, ...] = ()
    """The tasks of a group, each with the weight that gives the harness's score."""

    @staticmethod
    def of(values: Sequence[Sequence[float]]) -> Questions:
        """Questions from the values of each one's answers."""
        means = [math.fsum(answers) / len(answers) for answers in values]
        once = all(len(answers) == 1 for answers in values)
        return Questions(means, bool(means) and once and all(mean in (0, 1) for mean in means))


class _Gathered:
    """The values of one metric, 24 bytes for each answer, and how many choices there were."""

    def __init__(self) -> None:
        self.names, self.values, self.clusters = array("q"), array("d"), array("q")
        self.chances, self.with_choices, self.unclustered = 0.0, 0, 0
        self.linked = False
        """Whether clusters are passages or templates, of which a few are no make-up."""

    def add(self, samples: Sequence[Sample], values: Sequence[float]) -> None:
        clusters = [each.category if each.cluster is None else each.cluster for each in samples]
        choices = [len(each.choices) for each in samples if each.choices]
        self.names.extend([hash(each.native_id) for each in samples])
        self.values.extend(values)
        self.clusters.extend(map(hash, clusters))
        self.unclustered += clusters.count(None)
        self.linked = self.linked or any(each.cluster is not None for each in samples)
        self.chances = sum([1 / n for n in choices], start=self.chances)
        self.with_choices += len(choices)

    def right_or_wrong(self) -> bool:
        import numpy as np

        return bool(np.isin(np.frombuffer(self.values), (0.0, 1.0)).all())

    def chance(self) -> float | None:
        if self.with_choices != len(self.values) or not self.right_or_wrong():
            return None
        return self.chances / self.with_choices

    def questions(self) -> Questions:
        import numpy as np

        values, right_or_wrong, chance = np.frombuffer(self.values), self.right_or_wrong(), self.chance()
        _, first, place = np.unique(
            np.frombuffer(self.names, np.int64), return_index=True, return_inverse=True
        )
        if len(first) == len(values):
            return Questions(self.values, right_or_wrong, chance, self._of(np.arange(len(values))))
        counts = np.bincount(place)
        means = np.bincount(place, values) / counts
        rerun = None
        if counts.min() > 1:
            within = np.bincount(place, (values - means[place]) ** 2) / (counts - 1) / counts
            rerun = math.sqrt(float(within.sum())) / len(first)
        order = np.argsort(first)
        return Questions(means[order].tolist(), False, chance, self._of(first[order]), rerun)

    def _of(self, first: np.ndarray) -> Labels | None:
        """Returns the clusters of the questions whose first answers are given, where they count."""
        import numpy as np

        if self.unclustered:
            return None
        clusters = np.frombuffer(self.clusters, np.int64)[first]
        return clusters if count_as_clusters(len(np.unique(clusters)), len(first), self.linked) else None


def count_as_clusters(n_clusters: int, n_questions: int, linked: bool) -> bool:
    """Returns whether questions of one cluster may stand and fall together.

    A few large categories are the benchmark's make-up, not a sample of many. Passages (`linked`) are a sample
    however few there are.
    """
    return n_clusters < n_questions and (linked or n_clusters >= MIN_CLUSTERS)


class Scores:
    """The samples' scores, gathered by what they measure."""

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._gathered: dict[_Key, _Gathered] = defaultdict(_Gathered)
        self.add(samples)

    def add(self, samples: Iterable[Sample]) -> None:
        """Counts more samples."""
        found: dict[_Key, tuple[list[Sample], list[float]]] = defaultdict(lambda: ([], []))
        for sample in samples:
            subsets = (None,) if sample.category is None else (None, sample.category)
            for score in sample.scores:
                if score.value is not None:
                    for subset in subsets:
                        own, values = found[sample.task, subset, score.metric, score.filter]
                        own.append(sample)
                        values.append(score.value)
        for key, (own, values) in found.items():
            self._gathered[key].add(own, values)

    def of(self, metric: Metric) -> Questions:
        """The questions that make up `metric`; none when the samples do not carry it."""
        if metric.is_group:
            return Questions(chance=self._chance_of_group(metric), parts=self._parts(metric))
        key = (metric.task, metric.subset or None, metric.metric, metric.filter)
        return self._gathered[key].questions() if key in self._gathered else Questions()

    def _parts(self, metric: Metric) -> tuple[Part, ...]:
        """The tasks of a group, if weighing them by their questions or equally gives the harness's score."""
        import numpy as np

        keys = [(task, None, metric.metric, metric.filter) for task in metric.mean_of or metric.parts or ()]
        if metric.value is None or len(keys) < 2 or not all(key in self._gathered for key in keys):
            return ()
        asked = [self._gathered[key].questions() for key in keys]
        total = sum(len(each.means) for each in asked)
        by_size = [len(each.means) / total for each in asked]
        equal = [1 / len(asked)] * len(asked)
        for weights in [equal] if metric.mean_of else [by_size, equal]:
            parts = tuple(
                Part(weight, np.asarray(each.means, float), each.clusters)
                for weight, each in zip(weights, asked, strict=True)
            )
            mean = math.fsum(part.weight * float(part.values.mean()) for part in parts)
            if abs(mean - metric.value) <= tolerance(metric.harness_value, metric.harness_scale or 1):
                return parts
        return ()

    def _chance_of_group(self, metric: Metric) -> float | None:
        """By chance over its tasks, where they are known: named, or all that there are."""
        tasks = {
            task: gathered
            for (task, subset, name, read_by), gathered in self._gathered.items()
            if subset is None and (name, read_by) == (metric.metric, metric.filter)
        }
        if metric.mean_of is not None:
            parts = [(tasks[task].chance(), 1) for task in metric.mean_of if task in tasks]
            whole = len(metric.mean_of)
        else:
            parts = [(each.chance(), len(each.values)) for each in tasks.values()]
            whole = metric.n_items or 0
        if not parts or sum(weight for _, weight in parts) != whole:
            return None
        known = [(chance, weight) for chance, weight in parts if chance is not None]
        return math.fsum(c * weight for c, weight in known) / whole if len(known) == len(parts) else None


def spread(metric: Metric, questions: Questions) -> Spread:
    """Standard error and 95 % interval of a metric, from the values of each of its questions.

    Where clusters of questions or a group's tasks are known, the error is theirs. Otherwise the harness's is
    taken, or without one that of the questions' means. An error of 0 says that all were equal, not that the
    next ones will be: it is left out. A value that the samples contradict, or that is beyond the ends of its
    scale, is a mismatch. Fewer than 15 questions get no interval.
    """
    recomputed, mismatch = _checked(metric, questions.means)
    trusted = mismatch is False and metric.n_items in (None, len(questions.means))
    found = None if metric.value is None else _of_clusters(questions, trusted)
    error, method = metric.se, "harness"
    if found is not None:
        error, method = found.se, "clusters" if found.n_clusters is not None else "tasks"
    elif error is None and trusted and len(questions.means) > 1:
        import numpy as np

        error, method = standard_error(np.asarray(questions.means)), "questions"
    if metric.value is None:
        error = None
    low = high = how = None
    if found is not None:
        if found.interval is not None:
            low, high, how = found.interval.low, found.interval.high, found.interval.method
    elif metric.value is not None:
        if trusted and questions.binary:
            right, n = round(math.fsum(questions.means)), len(questions.means)
            low, high, how = (*wilson(right, n), "wilson") if n >= MIN_QUESTIONS else (None, None, None)
        else:
            known = error is not None or not (mismatch or metric.is_group)
            n = metric.n_items or (len(questions.means) if trusted else 0)
            low, high, how = _interval(metric.value, error, n, known)
    if metric.value is not None and low is not None and high is not None:  # a product with n is rounded
        low, high = min(low, metric.value), max(high, metric.value)
    if error is None or error < _NOTHING:
        error = None
    return Spread(
        se=error,
        se_method=None if error is None else method,
        harness_se=None if metric.value is None else metric.se,
        n_clusters=None if found is None else found.n_clusters,
        rerun_se=questions.rerun_se if trusted and metric.value is not None else None,
        ci_lo=low,
        ci_hi=high,
        ci_level=LEVEL if how else None,
        ci_method=how,
        recomputed_value=recomputed,
        mismatch=mismatch,
        chance=questions.chance,
    )


def _of_clusters(questions: Questions, trusted: bool) -> Estimate | None:
    """What clusters of questions, or the tasks of a group, say of a score; None: there are none."""
    import numpy as np

    if questions.parts:
        return estimate_parts(questions.parts)
    if not trusted or questions.clusters is None:
        return None
    return estimate(np.asarray(questions.means, float), questions.clusters)


def _checked(metric: Metric, means: Sequence[float]) -> tuple[float | None, bool | None]:
    """The mean over the samples where it is a proportion, and whether the harness's score is not it."""
    scale, written = metric.harness_scale, metric.harness_value
    if scale is None:
        return None, None
    mean = math.fsum(means) / len(means) if means else None
    mismatch = None
    if mean is not None and metric.value is not None:
        mismatch = abs(mean - metric.value) > tolerance(written, scale)
    if written is not None and not -_NOTHING <= written / scale <= 1 + _NOTHING:
        mismatch = True
    return (mean if mean is not None and 0 <= mean <= 1 else None), mismatch


def _interval(
    value: float, error: float | None, n: int, known: bool
) -> tuple[float, float, str] | tuple[None, None, None]:
    """Wilson's interval of a proportion of which the single questions are not at hand.

    Scores of 0 to 1 vary most where each is 0 or 1: a standard error as large as that says that they are, and
    without one (`known`: the value is at least a mean over `n` questions) it is the safe assumption. Another
    error stands for as many questions as would have it (`effective_questions`).
    """
    if n < MIN_QUESTIONS or not known:
        return None, None, None
    if error is None or error < _NOTHING or value in (0, 1):
        return *wilson(value * n, n), "wilson"
    most = value * (1 - value)
    if any(math.isclose(error, math.sqrt(most / m), rel_tol=1e-6) for m in (n - 1, n)):
        return *wilson(value * n, n), "wilson"
    found = effective_wilson(value, effective_questions(value, error, n), n)
    return found.low, found.high, found.method


def tolerance(written: float | None, scale: float) -> float:
    """How far a recomputed mean may lie from a written score, as a proportion.

    It is half of the last digit written, never more than `_ROUNDING`.
    """
    if written is None:
        return _ROUNDING
    exponent = Decimal(repr(float(written))).as_tuple().exponent
    digits = -exponent if isinstance(exponent, int) else 0
    return min(_ROUNDING, 0.5 * 10.0**-digits / scale) + 1e-9
