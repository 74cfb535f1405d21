"""Two models of a run, compared on the questions that both answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from slurmeval.errors import UserError
from slurmeval.results import frames
from slurmeval.results.sharing import Sharing, sharing
from slurmeval.results.statistics import count_as_clusters
from slurmeval.statistics import families, pairs
from slurmeval.statistics.intervals import MIN_CLUSTERS, Interval, mean_of_benchmarks, normal_quantile
from slurmeval.statistics.pairs import Difference, Verdict

if TYPE_CHECKING:
    from slurmeval.statistics.intervals import Floats, Labels

MIN_PAIRED = 0.9
"""Share of the questions that must be paired, unless told otherwise."""
_SETTINGS = (
    *("harness", "harness_version", "task", "task_version", "endpoint", "few_shot", "limit", "n_repeats"),
    *("temperature", "top_p", "max_tokens"),
)
"""Columns of `evaluations` in which two evaluations should agree to be comparable."""


@dataclass(frozen=True)
class Certificate:
    """How the questions of two models pair up."""

    paired: int
    """Questions that both answered."""
    only_a: int
    only_b: int
    errored: int
    """Questions that both were asked and one or both did not answer."""
    unparsed_a: int
    """Of the paired ones: answers of A that the harness could not read."""
    unparsed_b: int

    @property
    def share(self) -> float:
        """The paired questions among all."""
        return self.paired / max(1, self.paired + self.only_a + self.only_b + self.errored)


@dataclass(frozen=True)
class BenchmarkComparison:
    """Two models on one benchmark."""

    benchmark: str
    metric: str
    higher_is_better: bool
    certificate: Certificate
    mean_a: float | None
    """Mean score over the paired questions; None: there are none."""
    mean_b: float | None
    difference: Difference | None
    n_clusters: int | None
    """Clusters (categories, subtasks) that the error allows for; None: questions are independent."""
    refusal: str | None
    """Why there is no difference."""
    settings: tuple[str, ...]
    """In what the two evaluations differ."""
    p_holm: float | None = None
    """The p-value, corrected for the number of benchmarks compared."""

    @property
    def verdict(self) -> Verdict:
        """What the difference says of A, whichever way the metric goes."""
        if self.difference is None:
            return Verdict.CANNOT_TELL
        return self.difference.verdict if self.higher_is_better else self.difference.verdict.reversed


@dataclass(frozen=True)
class Comparison:
    """Two models on all benchmarks that both ended well in."""

    a: str
    b: str
    margin: float
    benchmarks: tuple[BenchmarkComparison, ...]
    missing: tuple[str, ...]
    """Benchmarks that only one of them ended well in."""
    mean: tuple[float, Interval | None, Verdict] | None
    """Mean difference over the benchmarks, each weighing the same; None: fewer than two can be averaged."""
    shared: tuple[tuple[str, str, int], ...] = ()
    """Two benchmarks of the mean that ask so many questions both."""


def compare(
    results: Path,
    a: str,
    b: str,
    benchmarks: Sequence[str] = (),
    margin: float = 0.0,
    min_paired: float = MIN_PAIRED,
) -> Comparison:
    """Compares the models `a` and `b` of a results folder, A − B, by each benchmark's primary metric.

    Args:
        results: The results folder, or the project folder that holds it as `results`.
        a: A model's id in the config.
        b: Another's.
        benchmarks: Benchmarks' ids; none: all that both ended well in.
        margin: Differences up to it do not matter, as a score (0.02 is two points).
        min_paired: Share of the questions that must be paired, 0 to 1.

    Raises:
        UserError: A model or benchmark is unknown, or nothing can be compared.
        SchemaDrift: The results are of another version.
    """
    results = frames.results_folder(results)
    ended = ended_well(results)
    of_either = _checked_names(results, ended, a, b, benchmarks)
    wanted = [benchmark for benchmark in of_either if not benchmarks or benchmark in benchmarks]
    both = [benchmark for benchmark in wanted if (a, benchmark) in ended and (b, benchmark) in ended]
    if not both:
        raise UserError(f"no benchmark has results of both {a} and {b} in {results}")
    primary = primary_metrics(results)
    read = partial(read_questions, results)
    compared = [
        compare_benchmark((ended[a, benchmark], ended[b, benchmark]), primary, read, margin, min_paired)
        for benchmark in both
    ]
    missing = tuple(benchmark for benchmark in wanted if benchmark not in both)
    shared = sharing(results, [(a, each.benchmark) for each in averaged(compared)])
    mean = mean_difference(compared, margin, shared)
    return Comparison(a, b, margin, _with_holm(compared), missing, mean, shared.pairs)


Row = dict[str, Any]


def _checked_names(
    results: Path, ended: dict[tuple[str, str], Row], a: str, b: str, benchmarks: Sequence[str]
) -> list[str]:
    """Returns the benchmarks that either model ended well in. Raises UserError on unknown names."""
    known = list(dict.fromkeys(model for model, _ in ended))
    for model in (a, b):
        if model not in known:
            raise UserError(
                f"unknown model '{model}'; with results in {results}: {', '.join(known) or 'none'}"
            )
    if a == b:
        raise UserError(f"'{a}' is compared with itself; name two models of {', '.join(known)}")
    of_either = list(dict.fromkeys(benchmark for model, benchmark in ended if model in (a, b)))
    for benchmark in benchmarks:
        if benchmark not in of_either:
            raise UserError(
                f"unknown benchmark '{benchmark}'; with results of {a} or {b}: {', '.join(of_either)}"
            )
    return of_either


def ended_well(results: Path) -> dict[tuple[str, str], Row]:
    """Returns the evaluations that ended well, by model and benchmark."""
    rows = frames.read_combined("evaluations", results).to_pylist()
    return {(row["model"], row["benchmark"]): row for row in rows if row["status"] == "ok"}


def primary_metrics(results: Path) -> dict[tuple[str, str], Row]:
    """Returns the metric that each evaluation is known by."""
    rows = frames.read_combined("metrics", results)
    return {(row["model"], row["benchmark"]): row for row in rows.filter(rows["is_primary"]).to_pylist()}


def compare_benchmark(
    evaluations: tuple[Row, Row],
    primary: dict[tuple[str, str], Row],
    read: Callable[[Row], pa.Table],
    margin: float,
    min_paired: float,
    factors: tuple[float, float] = (1.0, 1.0),
) -> BenchmarkComparison:
    """Compares two evaluations of one benchmark; `read` returns the questions of a metric's row.

    `factors`: what the scores of either are multiplied by for the difference.
    """
    benchmark = evaluations[0]["benchmark"]
    models = [row["model"] for row in evaluations]
    metrics = [primary.get((model, benchmark)) for model in models]
    settings = tuple(
        f"{name} {_said(evaluations[0][name])} and {_said(evaluations[1][name])}"
        for name in _SETTINGS
        if evaluations[0][name] != evaluations[1][name]
    )
    left_out = [_left_out(row) for row in evaluations]
    if left_out[0] != left_out[1]:
        settings += (f"{left_out[0]} and {left_out[1]} left out of requests",)
    empty = Certificate(0, 0, 0, 0, 0, 0)
    if metrics[0] is None or metrics[1] is None:
        why = "no metric stands for the whole benchmark"
        return BenchmarkComparison(benchmark, "", True, empty, None, None, None, None, why, settings)
    name, better = metrics[0]["metric"], metrics[0]["higher_is_better"] is not False
    if (name, metrics[0]["filter"]) != (metrics[1]["metric"], metrics[1]["filter"]):
        why = f"{models[0]} is scored by {name}, {models[1]} by {metrics[1]['metric']}"
        return BenchmarkComparison(benchmark, name, better, empty, None, None, None, None, why, settings)
    asked = [read(metric) for metric in metrics if metric is not None]
    certificate, a, b, clusters = _pair(*asked)
    refusal = None
    if not certificate.paired:
        refusal = "no question was answered by both" if all(map(len, asked)) else f"samples carry no {name}"
    elif certificate.share < min_paired:
        refusal = f"{certificate.share:.0%} of the questions are paired; at least {min_paired:.0%} must be"
    n_clusters = None if clusters is None else int(clusters.max()) + 1
    found = None if refusal else pairs.difference(a * factors[0], b * factors[1], clusters, margin)
    mean_a, mean_b = (float(a.mean()), float(b.mean())) if certificate.paired else (None, None)
    return BenchmarkComparison(
        benchmark, name, better, certificate, mean_a, mean_b, found, n_clusters, refusal, settings
    )


def _left_out(evaluation: Row) -> str:
    """Returns the parameters that a model's server was not sent, whatever the benchmark says of them."""
    names = (json.loads(evaluation["served_json"] or "{}") or {}).get("parameters") or {}
    return ", ".join(sorted(name for name, theirs in names.items() if theirs is None)) or "nothing"


def _said(value: object) -> str:
    return "the default" if value is None else str(value)


def read_questions(results: Path, metric: Row) -> pa.Table:
    """Returns a row for each question: uid, mean score, cluster, whether it errored, is unparsed, is linked.

    They are ordered by uid. Raises UserError if the evaluation has no samples.
    """
    return QuestionOrder().questions_of(read_answers(results, metric))


class QuestionOrder:
    """Puts a benchmark's questions in order: found once for all models that were asked in the same way."""

    def __init__(self) -> None:
        """Knows no order yet."""
        self._asked: pa.Array | None = None
        self._order: pa.Array | None = None
        self._sorted: pa.Array | None = None

    def questions_of(self, answers: pa.Table) -> pa.Table:
        """Returns a row for each question of some answers, as `read_questions` does."""
        flags = ("errored", "unparsed", "linked")
        names = ["sample_uid", "value_mean", "cluster_min", *(f"{name}_any" for name in flags)]
        kept = answers.select(["sample_uid", "value", "cluster", *flags]).combine_chunks()
        uids = _one_chunk(kept["sample_uid"])
        if self._asked is None or not uids.equals(self._asked):
            order = pc.sort_indices(uids)
            ordered = uids.take(order)
            if pc.any(pc.equal(ordered[1:], ordered[:-1])).as_py():  # several answers to a question
                aggregates = [("value", "mean"), ("cluster", "min"), *((name, "any") for name in flags)]
                found = kept.group_by("sample_uid").aggregate(aggregates)
                return found.select(names).sort_by("sample_uid").combine_chunks()
            self._asked, self._order, self._sorted = uids, order, ordered
        rest = kept.drop_columns("sample_uid").take(self._order)
        return pa.table([self._sorted, *rest.columns], names)


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def read_answers(results: Path, metric: Row) -> pa.Table:
    """Returns a row for each answer to a metric's questions: uid, task, score, cluster, and what befell it.

    The cluster is the task of a group, else the passage (`linked`), else the category. An answer is `errored`
    if there is none, or no score that is a number; `unparsed` if the harness could not read it; `cut` if its
    prompt or the answer itself was cut off. Raises UserError if the evaluation has no samples.
    """
    import numpy as np

    path = results / "samples" / metric["model"] / f"{metric['benchmark']}.parquet"
    columns = ["sample_uid", "task", "category", "cluster", "status", "finish_reason", "cut"]
    columns += [f"scores.list.element.{name}" for name in ("metric", "filter", "value")]
    rows = frames.read_samples(path, columns)
    tasks = metric["mean_of"] or metric["parts"]
    if tasks is not None:
        rows = rows.filter(pc.is_in(rows["task"], pa.array(tasks)))
    elif not metric["is_group"]:
        rows = rows.filter(pc.equal(rows["task"], metric["task"]))
    scores = pc.list_flatten(rows["scores"]).combine_chunks()
    parents = pc.list_parent_indices(rows["scores"]).combine_chunks()
    names, filters = pc.struct_field(scores, "metric"), pc.struct_field(scores, "filter")
    read_by = metric["filter"]
    by = pc.is_null(filters) if read_by is None else pc.equal(filters, read_by)
    same = pc.fill_null(pc.and_(pc.equal(names, metric["metric"]), by), fill_value=False)
    # A sample that nobody answered may have no scores, and is a question of the benchmark all the same
    numbers = pa.array(np.arange(len(rows)), parents.type)
    kept, values = parents.filter(same), pc.struct_field(scores, "value").filter(same)
    if kept.equals(numbers):  # one score each, as most evaluations have
        scored = rows
    else:
        unanswered = pc.and_(pc.equal(rows["status"], "error"), pc.invert(pc.is_in(numbers, kept)))
        scored = pa.concat_tables([rows.take(kept), rows.filter(unanswered)])
    values = pa.concat_arrays([values, pa.nulls(len(scored) - len(values), values.type)])
    by_task = metric["is_group"] and pc.count_distinct(rows["task"]).as_py() >= MIN_CLUSTERS
    known = pc.coalesce(scored["cluster"], scored["category"])
    at_limit = pc.fill_null(pc.equal(scored["finish_reason"], "length"), False)
    return pa.table(
        {
            "sample_uid": scored["sample_uid"],
            "task": scored["task"],
            "value": values,
            "cluster": scored["task"] if by_task else known,
            "linked": pc.and_(pc.is_valid(scored["cluster"]), not by_task),
            "errored": pc.or_(
                pc.equal(scored["status"], "error"), pc.invert(pc.fill_null(pc.is_finite(values), False))
            ),
            "unparsed": pc.equal(scored["status"], "unparsed"),
            "cut": pc.or_(at_limit, pc.fill_null(scored["cut"], False)),
        }
    )


def _pair(a: pa.Table, b: pa.Table) -> tuple[Certificate, Floats, Floats, Labels | None]:
    """Returns the certificate, and the scores and clusters of the paired questions.

    Both tables are ordered by uid, and so is what is returned.
    """
    both = a, b
    if not a["sample_uid"].equals(b["sample_uid"]):
        uids = a["sample_uid"], b["sample_uid"]
        both = a.filter(pc.is_in(uids[0], uids[1])), b.filter(pc.is_in(uids[1], uids[0]))
    n_both = len(both[0])
    errored = pc.or_(*(each["errored_any"] for each in both))
    if pc.any(errored).as_py():
        both = both[0].filter(pc.invert(errored)), both[1].filter(pc.invert(errored))
    paired = both[0]
    certificate = Certificate(
        paired=len(paired),
        only_a=len(a) - n_both,
        only_b=len(b) - n_both,
        errored=n_both - len(paired),
        unparsed_a=pc.sum(paired["unparsed_any"]).as_py() or 0,
        unparsed_b=pc.sum(both[1]["unparsed_any"]).as_py() or 0,
    )
    names = paired["cluster_min"]
    clusters: Labels | None = None
    if len(names) and not names.null_count:
        numbered = names.combine_chunks().dictionary_encode()
        linked = bool(pc.any(paired["linked_any"]).as_py())
        if count_as_clusters(len(numbered.dictionary), len(names), linked):
            clusters = numbered.indices.to_numpy()
    return certificate, paired["value_mean"].to_numpy(), both[1]["value_mean"].to_numpy(), clusters


def _with_holm(compared: Sequence[BenchmarkComparison]) -> tuple[BenchmarkComparison, ...]:
    tested = [each for each in compared if each.difference and each.difference.p_value is not None]
    p_values = [
        each.difference.p_value for each in tested if each.difference and each.difference.p_value is not None
    ]
    corrected = dict(zip((each.benchmark for each in tested), families.holm(p_values), strict=True))
    return tuple(replace(each, p_holm=corrected.get(each.benchmark)) for each in compared)


def mean_difference(
    compared: Sequence[BenchmarkComparison], margin: float, shared: Sharing | None = None
) -> tuple[float, Interval | None, Verdict] | None:
    """Returns the mean difference over the benchmarks that can be averaged; None: fewer than two can."""
    of = averaged(compared)
    found = [each.difference for each in of if each.difference]
    if len(found) < 2:
        return None
    families = None if shared is None else shared.of(each.benchmark for each in of)
    value, se = mean_of_benchmarks([each.value for each in found], [each.se for each in found], families)
    if se is None or any(each.refusal for each in found):
        return value, None, Verdict.CANNOT_TELL
    half = normal_quantile(0.975) * se
    interval = Interval(value - half, value + half, "normal")
    return value, interval, pairs.judge(interval, margin)


def averaged(compared: Sequence[BenchmarkComparison]) -> list[BenchmarkComparison]:
    """Returns the benchmarks whose scores lie between 0 and 1, higher being better."""
    return [each for each in compared if each.difference and each.higher_is_better and _on_scale(each)]


def _on_scale(compared: BenchmarkComparison) -> bool:
    return all(mean is not None and 0 <= mean <= 1 for mean in (compared.mean_a, compared.mean_b))
