"""What raters' ratings are worth: agreement, self-agreement, gold, time, leaning, drift."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slurmeval.config.study import CONFIDENCE, PREFERENCE, SCALE
from slurmeval.humans.reading import MergedRatings, RatedItem, by_unit, first_times
from slurmeval.statistics import agreement
from slurmeval.statistics.intervals import Interval, student_t, wilson

if TYPE_CHECKING:
    import numpy as np

LARGE_DIFFERENCE = 2
"""Grades apart: such ratings of an answer are worth a talk."""
FEW = 3
"""Fewer values say nothing of a rater's leaning or drift."""


@dataclass(frozen=True)
class Agreement:
    """How far raters agree on what was rated."""

    name: str
    """A dimension, or `preference`."""
    n_units: int
    """Units that two raters or more rated."""
    alpha: float | None
    """Krippendorff's: ordinal of grades, nominal of preferences."""
    interval: Interval | None
    kappa: float | None
    """Cohen's, mean over pairs of raters: with quadratic weights of grades."""
    fleiss: float | None
    """Fleiss', where each unit has equally many ratings, three or more."""
    tau: float | None
    """Kendall's tau-b, mean over pairs of raters."""
    exact: float | None
    """Share of pairs of ratings that are the same."""


@dataclass(frozen=True)
class RaterQuality:
    """What is to be known of a rater."""

    rater: str
    n_given: int
    n_rated: int
    n_skipped: int
    median_time_s: float | None
    n_again: int
    """Ratings of what the rater saw twice."""
    self_agreement: float | None
    """Share of these that are the same (preferences: although the order was turned)."""
    n_gold: int
    gold_right: float | None
    leaning: float | None
    """Mean of own rating − others' mean of the same answers, over all dimensions; of preferences, the share
    of choices that fall on answer A − 0.5."""
    leaning_interval: Interval | None
    drift: float | None
    """How much that difference grows from the first to the last item (direct)."""
    drift_interval: Interval | None


def agreements(merged: MergedRatings) -> list[Agreement]:
    """Returns the agreement on each dimension, or on preferences."""
    study = merged.batch.declared
    names = [name for name in study.names if name != CONFIDENCE]
    return [_agreement(merged, name) for name in names]


def matrix(items: Sequence[RatedItem], raters: Sequence[str], name: str) -> tuple[list[str], np.ndarray]:
    """Returns the units, and their ratings of shape (raters, units), NaN where there is none."""
    import numpy as np

    units = list(by_unit(items))
    found = np.full((len(raters), len(units)), np.nan)
    rows, columns = ({each: number for number, each in enumerate(of)} for of in (raters, units))
    for item in items:
        if name in item.values:
            found[rows[item.rater], columns[item.item.unit]] = item.values[name]
    return units, found


def _agreement(merged: MergedRatings, name: str) -> Agreement:
    import numpy as np

    batch = merged.batch
    units, ratings = matrix(first_times(merged), list(batch.raters), name)
    rated = (~np.isnan(ratings)).sum(axis=0)
    level: agreement.Level = "nominal" if name == PREFERENCE else "ordinal"
    # Answers to one question stand and fall together
    questions = [(batch.units[unit].benchmark, batch.units[unit].sample_uid) for unit in units]
    numbers = {question: number for number, question in enumerate(dict.fromkeys(questions))}
    clusters = np.array([numbers[question] for question in questions], dtype=np.int64)
    kappas, taus, same = [], [], []
    values = np.array([0, 0.5, 1] if name == PREFERENCE else SCALE, dtype=float)
    for a, b in itertools.combinations(ratings, 2):
        both = ~np.isnan(a) & ~np.isnan(b)
        if both.sum() < 2:
            continue
        found = agreement.cohen_kappa(_table(a[both], b[both], values), quadratic=name != PREFERENCE)
        kappas += [] if found is None else [found[0]]
        tau = agreement.kendall_tau(a[both], b[both])
        taus += [] if tau is None else [tau]
        same += list(a[both] == b[both])
    counts = (ratings[:, rated > 0, None] == values).sum(axis=0).astype(float)
    return Agreement(
        name,
        int((rated > 1).sum()),
        agreement.krippendorff_alpha(ratings, level),
        agreement.alpha_interval(ratings, level, clusters),
        statistics.fmean(kappas) if kappas else None,
        agreement.fleiss_kappa(counts) if len(counts) and counts[0].sum() > 2 else None,
        statistics.fmean(taus) if taus else None,
        statistics.fmean(same) if same else None,
    )


def _table(a: np.ndarray, b: np.ndarray, values: np.ndarray) -> np.ndarray:
    table: np.ndarray = (a[:, None] == values).astype(float).T @ (b[:, None] == values).astype(float)
    return table


def raters(merged: MergedRatings) -> list[RaterQuality]:
    """Returns what is to be known of each rater who sent a file."""
    return [_quality(merged, rater) for rater in merged.batch.raters if merged.of(rater)]


def _quality(merged: MergedRatings, rater: str) -> RaterQuality:
    items = merged.of(rater)
    times = [each.time_s for each in items if each.time_s is not None]
    again, gold = _again(items), _gold(merged, items)
    leaning, leaning_interval = _leaning(merged, rater)
    drift, drift_interval = _drift(merged, rater)
    return RaterQuality(
        rater,
        len(merged.batch.raters[rater]),
        len(items),
        sum(each.skipped for each in items),
        statistics.median(times) if times else None,
        len(again),
        statistics.fmean(again) if again else None,
        len(gold),
        statistics.fmean(gold) if gold else None,
        leaning,
        leaning_interval,
        drift,
        drift_interval,
    )


def _again(items: Sequence[RatedItem]) -> list[bool]:
    """Returns whether each rating of what was seen twice is that of the first time."""
    first = {each.item.unit: each.values for each in items if not each.item.again}
    return [
        first[each.item.unit][name] == value
        for each in items
        if each.item.again and each.item.unit in first
        for name, value in each.values.items()
        if name != CONFIDENCE and name in first[each.item.unit]
    ]


def _gold(merged: MergedRatings, items: Sequence[RatedItem]) -> list[bool]:
    """Returns whether each rating of gold is near enough to the right one."""
    tolerance = merged.batch.declared.gold_tolerance
    found = []
    for each in items:
        for name, right in (merged.batch.units[each.item.unit].gold or {}).items():
            if name in each.values:
                wanted = {"A": 1.0, "B": 0.0, "tie": 0.5}[right] if isinstance(right, str) else float(right)
                near = tolerance if name != PREFERENCE else 0
                found.append(abs(each.values[name] - wanted) <= near)
    return found


def _deviations(merged: MergedRatings, rater: str) -> list[tuple[int, float]]:
    """Returns position and own grade − others' mean, for what others rated too."""
    found = []
    for group in by_unit(first_times(merged)).values():
        own = [each for each in group if each.rater == rater]
        for name in own[0].values if own else ():
            others = [each.values[name] for each in group if each.rater != rater and name in each.values]
            if others:
                found.append((own[0].position, own[0].values[name] - statistics.fmean(others)))
    return found


def _leaning(merged: MergedRatings, rater: str) -> tuple[float | None, Interval | None]:
    if merged.batch.declared.kind == "pairwise":
        chosen = [
            (each.values[PREFERENCE] == 1) != each.item.swapped
            for each in merged.of(rater)
            if each.values.get(PREFERENCE) in (0, 1)
        ]
        if len(chosen) < FEW:
            return None, None
        low, high = wilson(sum(chosen), len(chosen))
        return statistics.fmean(chosen) - 0.5, Interval(low - 0.5, high - 0.5, "wilson")
    values = [value for _, value in _deviations(merged, rater)]
    if len(values) < FEW:
        return None, None
    mean = statistics.fmean(values)
    half = student_t(len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return mean, Interval(mean - half, mean + half, "t")


def _drift(merged: MergedRatings, rater: str) -> tuple[float | None, Interval | None]:
    """Returns the slope of deviations over the rater's order, from 0 to 1, by least squares."""
    if merged.batch.declared.kind == "pairwise":
        return None, None
    found = _deviations(merged, rater)
    last = max(1, len(merged.batch.raters[rater]) - 1)
    places = [position / last for position, _ in found]
    if len(set(places)) <= FEW:
        return None, None
    values = [value for _, value in found]
    centre, mean = statistics.fmean(places), statistics.fmean(values)
    spread = sum((place - centre) ** 2 for place in places)
    slope = sum((place - centre) * value for place, value in zip(places, values, strict=True)) / spread
    rest = [value - mean - slope * (place - centre) for place, value in zip(places, values, strict=True)]
    error = (sum(each**2 for each in rest) / (len(rest) - 2) / spread) ** 0.5
    half = student_t(len(rest) - 2) * error
    return slope, Interval(slope - half, slope + half, "t")


def disputed(merged: MergedRatings) -> list[list[RatedItem]]:
    """Returns the ratings of units on which raters differ much: two grades or more, or who is better."""
    far = LARGE_DIFFERENCE if merged.batch.declared.kind == "direct" else 1
    found = []
    for group in by_unit(first_times(merged)).values():
        names = {name for each in group for name in each.values if name != CONFIDENCE}
        spans = [[each.values[name] for each in group if name in each.values] for name in names]
        if any(max(span) - min(span) >= far for span in spans) or len({each.skipped for each in group}) > 1:
            found.append(group)
    return found
