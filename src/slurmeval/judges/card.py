"""A judge's card: how far it can be trusted, as its own verdicts and people's labels tell."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from slurmeval.harnesses.judge.harness import WIN_RATE
from slurmeval.judges.reading import StoredVerdict
from slurmeval.judges.scores import answer_means, numbered, question_means
from slurmeval.statistics.agreement import alpha_interval, cohen_kappa, krippendorff_alpha
from slurmeval.statistics.bootstrap import percentiles, resampled
from slurmeval.statistics.corrected import accuracy
from slurmeval.statistics.intervals import LEVEL, MIN_QUESTIONS, Interval, normal_quantile, wilson
from slurmeval.statistics.win_rates import SAME

if TYPE_CHECKING:
    from slurmeval.harnesses.judge.labels import Labelled
    from slurmeval.harnesses.judge.rubrics import Rubric
    from slurmeval.statistics.intervals import Floats, Labels, Matrix

Row = dict[str, Any]
HALF = 0.5


def card_rows(
    verdicts: Sequence[StoredVerdict], judge: str | None, labelled: Labelled, rubric: Rubric
) -> Iterator[Row]:
    """Yields the rows of `judge_card`, without what is the same in all."""
    names = list(dict.fromkeys(name for verdict in verdicts for name in verdict.values)) or list(rubric)
    for name in names:
        measures = [*_of_reading(verdicts, name, rubric), *_of_orders(verdicts, name)]
        measures += [*_verbosity(verdicts, name), *_self_preference(verdicts, name, judge)]
        measures += [*_retest(verdicts, name), *_of_jurors(verdicts, name)]
        measures += _of_labels(verdicts, name, labelled, rubric)
        yield from ({"dimension": name, **measure} for measure in measures)


def _row(measure: str, value: float | None, n: int, interval: Interval | None = None) -> Row:
    ends = {} if interval is None else {"ci_lo": interval.low, "ci_hi": interval.high}
    return {"measure": measure, "value": value, "n": n, **ends}


def _share(measure: str, hits: int, n: int) -> Row:
    """Returns a share with Wilson's interval."""
    if not n:
        return _row(measure, None, 0)
    return _row(measure, hits / n, n, Interval(*wilson(hits, n), "wilson"))


def _of_reading(verdicts: Sequence[StoredVerdict], name: str, rubric: Rubric) -> Iterator[Row]:
    """Yields how many verdicts could be read, how many answers judged, and how the scale was used."""
    asked = [verdict for verdict in verdicts if verdict.status != "error"]
    values = [value for verdict in asked if (value := verdict.values.get(name)) is not None]
    yield _share("judged", len(asked), len(verdicts))
    yield _share("parse_rate", len(values), len(asked))
    if any(verdict.votes for verdict in verdicts):
        return
    places = (0.0, HALF, 1.0)
    named = dict(zip(("losses", "ties", "wins"), places, strict=True))
    if name in rubric:
        named = {f"grade_{grade}": rubric[name].value(grade) for grade in rubric[name].meanings}
    for measure, value in named.items():
        yield _share(measure, sum(math.isclose(each, value) for each in values), len(values))


def _of_orders(verdicts: Sequence[StoredVerdict], name: str) -> Iterator[Row]:
    """Yields how often both orders have the same verdict, and how often the first answer wins."""
    if name != WIN_RATE:
        return
    both = [verdict.orders for verdict in verdicts if verdict.orders and None not in verdict.orders]
    if not both:
        return
    same = sum(orders in (("A", "B"), ("B", "A"), ("tie", "tie")) for orders in both)
    yield _share("position_consistency", same, len(both))
    decided = [said for orders in both for said in orders if said in ("A", "B")]
    yield _share("prefers_first", decided.count("A"), len(decided))


def _verbosity(verdicts: Sequence[StoredVerdict], name: str) -> Iterator[Row]:
    """Yields by how much a score rises where an answer is twice as long.

    Answers to one question are compared with each other, if there are several; else all with all, and then
    longer answers may be better. Of comparisons it is the slope of the win on the difference in length.
    """
    own = [
        v for v in verdicts if v.values.get(name) is not None and (name != WIN_RATE or v.against is not None)
    ]
    if len(own) < 3:
        return
    values = np.array([verdict.values[name] for verdict in own], float)
    lengths = np.array([_doublings(verdict.judged) - _doublings(verdict.against) for verdict in own])
    questions = numbered([verdict.question for verdict in own])
    if name != WIN_RATE and len(np.unique(questions)) < len(own):
        values, lengths = (_less_the_mean(each, questions) for each in (values, lengths))

    parts = np.column_stack([lengths, values, lengths**2, lengths * values])
    found = float(_slope(parts.mean(axis=0)))
    known = None if math.isnan(found) else found
    yield _row(
        "verbosity_slope", known, len(own), None if known is None else _bootstrapped(_slope, parts, questions)
    )


def _slope(means: np.ndarray) -> Floats:
    """Returns the slope of y on x by the means of x, y, x² and xy, shape (…, 4); NaN: x never varies."""
    x, y, squares, products = np.moveaxis(means, -1, 0)
    spread = squares - x**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 1e-12, (products - x * y) / spread, np.nan)


def _doublings(text: str | None) -> float:
    return 0.0 if text is None else math.log2(1 + len(text))


def _less_the_mean(values: Floats, groups: Labels) -> Floats:
    """Returns values less the mean of their group."""
    return values - (np.bincount(groups, values) / np.bincount(groups))[groups]


def _bootstrapped(
    statistic: Callable[[np.ndarray], Floats], parts: Matrix, groups: Labels
) -> Interval | None:
    """Returns the 95 % interval of a statistic of means, by a bootstrap over groups.

    `parts`: what the means are of, shape (n, k); the statistic is given them in shape (resamples, k).
    """
    names, numbers = np.unique(groups, return_inverse=True)
    if len(names) < MIN_QUESTIONS:
        return None
    sums = np.zeros((len(names), 1 + parts.shape[1]))
    np.add.at(sums, numbers, np.column_stack([np.ones(len(parts)), parts]))
    drawn = resampled(sums)
    found = percentiles(statistic(drawn[:, 1:] / drawn[:, :1]))
    return None if found is None or found.high - found.low < SAME else found


def _mean_of(values: Floats, groups: Labels) -> Interval | None:
    """Returns the 95 % interval of a mean, by a bootstrap over groups."""
    return _bootstrapped(lambda means: means[:, 0], values[:, None], groups)


def _self_preference(verdicts: Sequence[StoredVerdict], name: str, judge: str | None) -> Iterator[Row]:
    """Yields by how much the judge's own answers score above the others', question by question.

    That they are better is not taken out: only labels can tell.
    """
    own = question_means([verdict for verdict in verdicts if verdict.model == judge], name)
    others = question_means([verdict for verdict in verdicts if verdict.model != judge], name)
    both = [question for question in own if question in others]
    if not both:
        return
    differences = np.array([own[question] - others[question] for question in both])
    interval = _mean_of(differences, np.arange(len(both)))
    yield _row("self_preference", float(differences.mean()), len(both), interval)


def _retest(verdicts: Sequence[StoredVerdict], name: str) -> Iterator[Row]:
    """Yields how often two verdicts on the same answer are the same."""
    values: dict[Any, list[float]] = defaultdict(list)
    for verdict in verdicts:
        if (value := verdict.values.get(name)) is not None:
            values[verdict.answer].append(value)
    pairs = [pair for each in values.values() for pair in itertools.pairwise(each)]
    if pairs:
        yield _share("test_retest", sum(math.isclose(*pair) for pair in pairs), len(pairs))


def _of_jurors(verdicts: Sequence[StoredVerdict], name: str) -> Iterator[Row]:
    """Yields how far the jurors of a jury agree."""
    votes = [verdict.votes[name] for verdict in verdicts if name in verdict.votes]
    jurors = list(dict.fromkeys(juror for each in votes for juror in each))
    if len(jurors) < 2:
        return
    table = np.array([[_number(each.get(juror)) for each in votes] for juror in jurors])
    questions = numbered([verdict.question for verdict in verdicts if name in verdict.votes])
    yield _alpha("jury_alpha", table, questions)
    apart = [
        max(given) - min(given)
        for each in votes
        if len(given := [v for v in each.values() if v is not None]) > 1
    ]
    if apart:
        yield _row("jury_range", float(np.mean(apart)), len(apart))


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _alpha(measure: str, table: Matrix, questions: Labels) -> Row:
    """Returns Krippendorff's alpha of ratings (raters, units), on an interval scale."""
    twice = int(((~np.isnan(table)).sum(axis=0) > 1).sum())
    value = krippendorff_alpha(table, "interval")
    told = value is not None and twice >= MIN_QUESTIONS
    interval = alpha_interval(table, "interval", questions) if told else None
    unusable = interval is None or interval.high - interval.low < SAME
    return _row(measure, value, twice, None if unusable else interval)


def _of_labels(
    verdicts: Sequence[StoredVerdict], name: str, labelled: Labelled, rubric: Rubric
) -> Iterator[Row]:
    """Yields how far the judge agrees with people, where they labelled some of the answers."""
    judged, labels = answer_means(verdicts, name), labelled.values.get(name, {})
    known = [answer for answer in judged if answer in labels]
    if not known:
        return
    said, given = (np.array([of[answer] for answer in known]) for of in (judged, labels))
    questions = numbered([answer[1] for answer in known])
    yield _alpha("alpha", np.array([said, given]), questions)
    leaning = said - given
    yield _row("leaning", float(leaning.mean()), len(known), _mean_of(leaning, questions))
    if name == WIN_RATE:
        yield _kappa(np.round(said * 2), np.round(given * 2), 3)
        return
    dimension = rubric.get(name)
    if dimension is None:
        return
    least = dimension.value(max(dimension.meanings) if dimension.right_from is None else dimension.right_from)
    yes, right = ((each >= least - 1e-9).astype(float) for each in (said, given))
    yield _kappa(yes, right, 2)
    if (found := accuracy(right, yes)) is not None:
        n_right, n_wrong = found.n_right, found.n_wrong
        yield _share("sensitivity", round(found.sensitivity * n_right), n_right)
        yield _share("specificity", round(found.specificity * n_wrong), n_wrong)


def _kappa(said: Floats, given: Floats, values: int) -> Row:
    """Returns Cohen's kappa of values from 0 on."""
    table = np.zeros((values, values))
    np.add.at(table, (said.astype(int), given.astype(int)), 1)
    found = cohen_kappa(table)
    if found is None:
        return _row("kappa", None, len(said))
    value, error = found
    if error < SAME:  # all agreed: that the next ones will is not said
        return _row("kappa", value, len(said))
    half = normal_quantile((1 + LEVEL) / 2) * error
    return _row(
        "kappa", value, len(said), Interval(max(-1.0, value - half), min(1.0, value + half), "fleiss")
    )
