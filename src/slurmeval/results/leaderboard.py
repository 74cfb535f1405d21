"""The leaderboard of a run: every score, how sure it is, and which models can be told apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slurmeval.errors import UserError
from slurmeval.paths import Paths
from slurmeval.results import frames
from slurmeval.results.comparison import primary_metrics
from slurmeval.results.doubts import Doubts, finite
from slurmeval.results.judge_tables import read_judged
from slurmeval.results.matrix import Matrix, matrices
from slurmeval.results.questions import Row
from slurmeval.results.sharing import Sharing, sharing
from slurmeval.statistics import families
from slurmeval.statistics.intervals import Interval, mean_of_benchmarks, normal_quantile, refusal
from slurmeval.statistics.pairs import Verdict
from slurmeval.statistics.readings import Readings

_OF_EVALUATION = ["model", "benchmark", "status", "reason", "n_audited", "n_audit_differ"]
"""Columns of `evaluations` that a leaderboard shows. Times would take pandas to read, and that 0.2 s."""


@dataclass(frozen=True)
class Entry:
    """One model on one benchmark, by the benchmark's primary metric."""

    model: str
    benchmark: str
    status: str
    """`ok`, `failed`, `stopped` or `missing`, as in the table `evaluations`."""
    reason: str | None = None
    """Why there is no score."""
    metric: str | None = None
    value: float | None = None
    """A proportion, 0 to 1; None: there is no score, or it is no proportion."""
    harness_value: float | None = None
    """The score as the harness wrote it, such as a perplexity."""
    se: float | None = None
    interval: Interval | None = None
    n: int | None = None
    """Questions that were scored."""
    n_clusters: int | None = None
    """Clusters of questions (passages, subjects, tasks) that the error allows for; None: independent."""
    refusal: str | None = None
    """Why a score has no interval; None: it has one, or the reason is not known."""
    rerun_se: float | None = None
    """Standard error if the same questions were asked again; None: each was answered once."""
    judge_se: float | None = None
    """Standard error if the judge alone were asked again; None: no judge, or one asked once."""
    n_answers: int = 1
    """Answers to each question, where all are right or wrong."""
    pass_at_k: float | None = None
    """Share of the questions of which one of these answers is right; None: each was answered once."""
    pass_hat_k: float | None = None
    """Share of the questions of which all are right."""
    n_audited: int = 0
    """Requests that were asked once more (`gateway.noise_audit`)."""
    n_audit_differ: int = 0
    """Of these, the ones that got another answer."""
    n_unanswered: int = 0
    """Answers that nobody gave."""
    n_unparsed: int = 0
    """Answers that the harness could not read."""
    n_cut: int = 0
    """Answers that were cut off at the token limit, or whose prompt was cut."""
    has_answers: bool = True
    """Whether there are answers with this metric: without, no other model is told apart from this one."""
    readings: Readings | None = None
    """The score if all of these had been wrong, left out or right; None: the samples do not tell."""

    @property
    def rerun(self) -> float | None:
        """How far running again would move the score, 95 times in 100: both runs have the luck of answers."""
        return _moved(self.rerun_se)

    @property
    def judge_rerun(self) -> float | None:
        """How far asking the judge again about the same answers would move the score."""
        return _moved(self.judge_se)

    @property
    def rerun_bound(self) -> float | None:
        """The most that `rerun` is likely to be by the requests that were asked once more; None: none was.

        As if every question whose answer differs were answered by a model that is right as often as the score
        says, and the answers to one question had nothing else in common.
        """
        if self.value is None or not self.n or not self.n_audited or not 0 <= self.value <= 1:
            return None
        share = self.n_audit_differ / self.n_audited
        return normal_quantile(0.975) * math.sqrt(2 * share * self.value * (1 - self.value) / self.n)

    @property
    def depends_on_reading(self) -> bool:
        """Whether the score moves more with the reading of doubtful answers than with the questions."""
        if self.readings is None or not self.readings.n_doubtful:
            return False
        return self.interval is None or self.readings.width > self.interval.high - self.interval.low


@dataclass(frozen=True)
class Ranking:
    """How the models of one benchmark, or of the mean over benchmarks, are ordered."""

    order: tuple[str, ...]
    """Those with a score, best first."""
    groups: tuple[tuple[str, ...], ...]
    """The largest groups of which no two can be told apart (Holm over all pairs, at 95 %)."""
    bands: Mapping[str, tuple[int, int]]
    """The best and the worst rank that the data leave to each model."""

    def letters(self, model: str) -> str:
        """The groups that a model is in, as letters: models that share none can be told apart."""
        return "".join(_letter(index) for index, group in enumerate(self.groups) if model in group)


@dataclass(frozen=True)
class Standing:
    """A model's mean over the benchmarks."""

    model: str
    mean: float | None
    """Mean of the benchmarks' scores, each weighing the same; None: it lacks one of them."""
    se: float | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class Leaderboard:
    """All scores of a run."""

    models: tuple[str, ...]
    """By the mean, or by the only benchmark, best first; those without come last."""
    benchmarks: tuple[str, ...]
    metrics: Mapping[str, str]
    """The primary metric of each benchmark."""
    entries: Mapping[tuple[str, str], Entry]
    """By model and benchmark; a pair that the run does not have is left out."""
    rankings: Mapping[str, Ranking]
    """By benchmark."""
    averaged: tuple[str, ...]
    """Benchmarks that the mean is over: proportions of one metric, of which more is better."""
    standings: Mapping[str, Standing]
    """By model; empty if fewer than two benchmarks can be averaged."""
    ranking: Ranking | None
    """By the mean, or by the only benchmark."""
    shared: tuple[tuple[str, str, int], ...] = ()
    """Two benchmarks of the mean that ask so many questions both: its error allows for it."""


def leaderboard(
    results: Path,
    benchmarks: Sequence[str] = (),
    compared: Sequence[Matrix] | None = None,
    doubts: Doubts | None = None,
) -> Leaderboard:
    """Returns the leaderboard of a results folder, from its tables alone.

    Raises UserError without results, or if a benchmark is unknown; SchemaDrift on those of another version.

    Args:
        results: The results folder, or the project folder that holds it as `results`.
        benchmarks: Ids of the benchmarks to show; none: all.
        compared: All pairs of models; None: they are compared here.
        doubts: What their answers said when they were compared; without, they are read for it.
    """
    results = frames.results_folder(results)
    rows = frames.read_combined("evaluations", results, _OF_EVALUATION).to_pylist()
    shown = _shown(results, rows, benchmarks)
    primary = primary_metrics(results)
    doubts = Doubts(results) if doubts is None else doubts
    compared = matrices(results, shown, read=doubts.read) if compared is None else compared
    found = _entries((row for row in rows if row["benchmark"] in shown), primary, doubts)
    entries = _with_judges_noise(found, read_judged(Paths.of_results(results)))
    by_benchmark = {matrix.benchmark: matrix for matrix in compared if matrix.suite is None}
    models = list(dict.fromkeys(model for model, _ in entries))
    lower = {benchmark for (_, benchmark), row in primary.items() if row["higher_is_better"] is False}
    rankings = {
        benchmark: _ranking(_values(entries, benchmark), by_benchmark.get(benchmark), benchmark in lower)
        for benchmark in shown
    }
    averaged = tuple(benchmark for benchmark in shown if _averages(entries, benchmark, lower))
    shared = sharing(results, [pair for pair in primary if pair[1] in averaged])
    standings = {each: standing(each, averaged, entries, shared) for each in models if len(averaged) > 1}
    means = {model: each.mean for model, each in standings.items() if each.mean is not None}
    ranking = rankings[shown[0]] if len(shown) == 1 else None
    if standings:
        ranking = _ranking(means, by_benchmark.get(None), False, len(averaged))
    ahead = ranking.order if ranking else ()
    return Leaderboard(
        models=(*ahead, *(model for model in models if model not in ahead)),
        benchmarks=tuple(shown),
        metrics={benchmark: _metric(entries, benchmark) for benchmark in shown},
        entries=entries,
        rankings=rankings,
        averaged=averaged,
        standings=standings,
        shared=shared.pairs,
        ranking=ranking,
    )


def _moved(error: float | None) -> float | None:
    """Returns how far two runs with this standard error lie apart at most, 95 times in 100."""
    return None if error is None else normal_quantile(0.975) * math.sqrt(2) * error


def _shown(results: Path, rows: Sequence[Row], benchmarks: Sequence[str]) -> list[str]:
    """Returns the benchmarks of `rows`, all or those named. Raises UserError if one is unknown."""
    known = list(dict.fromkeys(row["benchmark"] for row in rows))
    for benchmark in benchmarks:
        if benchmark not in known:
            raise UserError(f"unknown benchmark '{benchmark}'; {results} has: {', '.join(known) or 'none'}")
    return [benchmark for benchmark in known if not benchmarks or benchmark in benchmarks]


def _entries(
    evaluations: Iterable[Row], primary: Mapping[tuple[str, str], Row], doubts: Doubts
) -> list[Entry]:
    entries = [_entry(row, primary, doubts) for row in evaluations]
    doubts.keep()
    return entries


def _entry(evaluation: Row, primary: Mapping[tuple[str, str], Row], doubts: Doubts) -> Entry:
    key = evaluation["model"], evaluation["benchmark"]
    metric = primary.get(key)
    if evaluation["status"] != "ok":
        return Entry(*key, evaluation["status"], evaluation["reason"])
    if metric is None:
        return Entry(*key, "ok", "no metric stands for the whole benchmark")
    value = finite(metric["value"])
    low, high = finite(metric["ci_lo"]), finite(metric["ci_hi"])
    doubt = doubts.of(metric)
    interval = None if low is None or high is None else Interval(low, high, metric["ci_method"] or "")
    few = value is not None and interval is None and metric["n_items"] is not None
    counts = dict.fromkeys(("errored", "unparsed", "cut"), 0) if doubt is None else doubt.counts
    passes = (doubt and doubt.passes) or (1, None, None)
    return Entry(
        *key,
        "ok",
        metric=metric["metric"],
        value=value,
        harness_value=finite(metric["harness_value"]),
        se=finite(metric["se"]),
        interval=interval,
        n=metric["n_items"],
        n_clusters=metric["n_clusters"],
        refusal=refusal(metric["n_items"], metric["n_clusters"]) if few else None,
        rerun_se=finite(metric["rerun_se"]),
        n_answers=passes[0],
        pass_at_k=passes[1],
        pass_hat_k=passes[2],
        n_audited=evaluation["n_audited"] or 0,
        n_audit_differ=evaluation["n_audit_differ"] or 0,
        n_unanswered=max(metric["n_unanswered"] or 0, counts["errored"]),
        n_unparsed=counts["unparsed"],
        n_cut=counts["cut"],
        has_answers=doubt is not None,
        readings=None if doubt is None else doubt.readings,
    )


def _with_judges_noise(entries: Sequence[Entry], judged: Sequence[Row]) -> dict[tuple[str, str], Entry]:
    """Returns entries by model and benchmark, those of judges with the errors that are known of them.

    Verdicts on one answer have more in common than those on two, which `metrics` does not tell apart.
    """
    found = {(entry.model, entry.benchmark): entry for entry in entries}
    for row in judged:
        entry = found.get((row["model"], row["benchmark"]))
        if entry is not None and entry.metric == row["dimension"]:
            again = {"rerun_se": row["rerun_se"], "judge_se": row["judge_se"]}
            found[entry.model, entry.benchmark] = replace(entry, **again)
    return found


def _values(entries: Mapping[tuple[str, str], Entry], benchmark: str) -> dict[str, float]:
    """Returns the score of each model that has one, on the harness's scale where it is no proportion."""
    found = {}
    for entry in entries.values():
        value = entry.harness_value if entry.value is None else entry.value
        if entry.benchmark == benchmark and value is not None:
            found[entry.model] = value
    return found


def _metric(entries: Mapping[tuple[str, str], Entry], benchmark: str) -> str:
    """Returns the metric of the first model that has a score; empty: none has."""
    return next((each.metric for each in entries.values() if each.benchmark == benchmark and each.metric), "")


def _averages(entries: Mapping[tuple[str, str], Entry], benchmark: str, lower: set[str]) -> bool:
    """Whether a benchmark's scores may be averaged with others'."""
    scored = [each for each in entries.values() if each.benchmark == benchmark and each.metric is not None]
    on_scale = all(each.value is not None and 0 <= each.value <= 1 for each in scored)
    one_metric = len({each.metric for each in scored}) == 1
    return bool(scored) and benchmark not in lower and one_metric and on_scale


def standing(
    model: str,
    averaged: Sequence[str],
    entries: Mapping[tuple[str, str], Entry],
    shared: Sharing | None = None,
) -> Standing:
    """Returns a model's mean over benchmarks, each weighing the same; none where it lacks a score of one."""
    found = [entries.get((model, benchmark)) for benchmark in averaged]
    values = [entry.value for entry in found if entry is not None and entry.value is not None]
    if len(values) != len(averaged):
        return Standing(model, None)
    errors = [_error(entry) for entry in found if entry is not None]
    mean, se = mean_of_benchmarks(values, errors, None if shared is None else shared.of(averaged))
    if se is None:
        return Standing(model, mean)
    half = normal_quantile(0.975) * se
    return Standing(model, mean, se, Interval(max(0.0, mean - half), min(1.0, mean + half), "normal"))


def _error(entry: Entry) -> float | None:
    """Returns a standard error. Where all answers were equal, it is that of the interval."""
    if entry.se is not None or entry.interval is None:
        return entry.se
    return (entry.interval.high - entry.interval.low) / 2 / normal_quantile(0.975)


def _ranking(
    values: Mapping[str, float], matrix: Matrix | None, lower: bool, n_averaged: int | None = None
) -> Ranking:
    """Orders models by `values`, and tells apart those of which `matrix` is sure.

    `n_averaged`: benchmarks of a mean; a pair that was compared on others is not told apart.
    """
    order = sorted(values, key=lambda model: values[model] if lower else -values[model])

    def verdict(a: str, b: str) -> Verdict:
        cells = {} if matrix is None else matrix.cells
        cell = cells.get((a, b)) or cells.get((b, a))
        if cell is None or not cell.sure or n_averaged not in (None, cell.n):
            return Verdict.CANNOT_TELL
        return cell.verdict if (a, b) in cells else cell.verdict.reversed

    verdicts = {(a, b): verdict(a, b) for index, a in enumerate(order) for b in order[index + 1 :]}
    groups = tuple(tuple(group) for group in families.groups(order, verdicts)) if order else ()
    return Ranking(tuple(order), groups, families.rank_bands(order, verdicts))


def _letter(index: int) -> str:
    """Returns a, b, … z, (27) and so on."""
    return chr(ord("a") + index) if index < 26 else f"({index + 1})"
