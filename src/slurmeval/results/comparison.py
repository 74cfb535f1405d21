"""Two models of a run, compared on the questions that both answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from slurmeval.errors import UserError
from slurmeval.results import frames
from slurmeval.results.questions import Certificate, QuestionScores, Row, paired, read_questions
from slurmeval.results.sharing import Sharing, sharing
from slurmeval.statistics import families, pairs
from slurmeval.statistics.intervals import Interval, mean_of_benchmarks, normal_quantile
from slurmeval.statistics.pairs import Difference, Verdict

MIN_PAIRED = 0.9
"""Share of the questions that must be paired, unless told otherwise."""
_SETTINGS = (
    *("harness", "harness_version", "task", "task_version", "endpoint", "few_shot", "limit", "n_repeats"),
    *("temperature", "top_p", "max_tokens"),
)
"""Columns of `evaluations` in which two evaluations should agree to be comparable."""
_LEFT_OUT = "left out of requests"
"""What two evaluations should agree in besides."""


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
    """Returns the evaluations that ended well, by model and benchmark: what of them `compare` reads."""
    columns = ["model", "benchmark", "status", "served_json", *_SETTINGS]
    rows = frames.read_combined("evaluations", results, columns).to_pylist()
    return {(row["model"], row["benchmark"]): row for row in rows if row["status"] == "ok"}


def primary_metrics(results: Path) -> dict[tuple[str, str], Row]:
    """Returns the metric that each evaluation is known by."""
    rows = frames.read_combined("metrics", results)
    return {(row["model"], row["benchmark"]): row for row in rows.filter(rows["is_primary"]).to_pylist()}


def compare_benchmark(
    evaluations: tuple[Row, Row],
    primary: dict[tuple[str, str], Row],
    read: Callable[[Row], QuestionScores],
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
    settings = tuple(_unlike(*map(settings_of, evaluations)))
    empty = Certificate(0, 0, 0, 0, 0, 0)
    if metrics[0] is None or metrics[1] is None:
        why = "no metric stands for the whole benchmark"
        return BenchmarkComparison(benchmark, "", True, empty, None, None, None, None, why, settings)
    name, better = metrics[0]["metric"], metrics[0]["higher_is_better"] is not False
    if (name, metrics[0]["filter"]) != (metrics[1]["metric"], metrics[1]["filter"]):
        why = f"{models[0]} is scored by {name}, {models[1]} by {metrics[1]['metric']}"
        return BenchmarkComparison(benchmark, name, better, empty, None, None, None, None, why, settings)
    asked = [read(metric) for metric in metrics if metric is not None]
    certificate, a, b, clusters = paired(*asked)
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


def settings_of(evaluation: Row) -> dict[str, Any]:
    """Returns in what two evaluations should agree to be comparable."""
    left_out = _left_out(evaluation["served_json"])
    return {name: evaluation[name] for name in _SETTINGS} | {_LEFT_OUT: left_out}


def _unlike(a: dict[str, Any], b: dict[str, Any]) -> Iterator[str]:
    for name, (one, other) in {name: (a[name], b[name]) for name in a if a[name] != b[name]}.items():
        words = f"{_said(one)} and {_said(other)}"
        yield f"{words} {name}" if name == _LEFT_OUT else f"{name} {words}"


@cache
def _left_out(served: str | None) -> str:
    """Returns the parameters that a model's server was not sent, whatever the benchmark says of them."""
    names = (json.loads(served or "{}") or {}).get("parameters") or {}
    return ", ".join(sorted(name for name, theirs in names.items() if theirs is None)) or "nothing"


def _said(value: object) -> str:
    return "the default" if value is None else str(value)


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


def restored(kept: dict[str, Any]) -> BenchmarkComparison:
    """Returns a comparison from what JSON has of it."""
    found = kept["difference"]
    if found is not None:
        interval, verdict = found["interval"], Verdict(found["verdict"])
        found = Difference(**found | {"interval": interval and Interval(**interval), "verdict": verdict})
    certificate, settings = Certificate(**kept["certificate"]), tuple(kept["settings"])
    known = {"certificate": certificate, "difference": found, "settings": settings}
    return BenchmarkComparison(**kept | known)
