"""What `run` left of an Inspect task, as metrics and samples."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from slurmeval.harnesses import scales
from slurmeval.harnesses.base import HarnessOutput, Job, Metric, Sample, Score
from slurmeval.harnesses.inspect import run
from slurmeval.harnesses.json_lines import MALFORMED, json_lines
from slurmeval.harnesses.nemo_readers.reading import json_value
from slurmeval.harnesses.sample_checks import each_once, well_formed
from slurmeval.harnesses.scores import bad_result, mark_primary, number, proportion

MEANS = ("accuracy", "mean")
"""Inspect's metrics that are the mean over questions of a sample's score."""
_ERRORS = ("stderr", "std_err", "bootstrap_stderr")
_NOT_MATCHED = "Scoring pattern not matched"
"""How Inspect's `pattern` begins its explanation where it finds no answer."""


def read(job: Job, attempt: Path, version: str) -> HarnessOutput:
    """Returns the results of an attempt.

    Raises:
        EvaluationFailed: They cannot be read, or their number is not what was asked for (bad_result).
    """
    found = json_value(attempt / run.RESULTS)
    file = attempt / run.SAMPLES
    repeats, task = job.benchmark.repeats, job.benchmark.task
    try:
        lines = json_lines(file)
        names = _names(found["scores"])
        samples = [_sample(line, task, names, job.benchmark.extra.get("category")) for line in lines]
        size = operator.index(found["dataset"]["n_samples"])
        metrics = _told_apart(each for row in found["scores"] for each in _metrics(row, task, repeats, lines))
        task_version = str(found["task_version"])
    except MALFORMED as error:
        raise bad_result(f"inspect: its files do not parse: {error!r}") from error
    each_once(well_formed(samples, "inspect"), file)
    wanted = min(size, job.benchmark.limit or size) * repeats
    questions = {sample.native_id for sample in samples}
    if len(samples) != wanted or len(questions) * repeats != wanted:
        raise bad_result(f"inspect: {wanted} answers were asked for, and there are samples of {len(samples)}")
    mark_primary(metrics, task)
    return HarnessOutput(metrics, samples, wanted, version, task_version)


def _names(rows: list[dict[str, Any]]) -> dict[tuple[str, str], str]:
    """Returns the metric that is the mean of each scorer's value of a name (`""`: its only one)."""
    names = {}
    for row in rows:
        value = "" if row["name"] == row["scorer"] else row["name"]
        means = [each["name"] for each in row["metrics"] if each["name"] in MEANS and not _is_part(each)]
        if means and row["reducer"] in (None, "mean"):
            names[row["scorer"], value] = means[0]
    return names


def _sample(
    line: dict[str, Any], task: str, names: dict[tuple[str, str], str], category: str | None
) -> Sample:
    scores = [
        Score(
            metric=names.get((scorer, name)) or name or "score",
            filter=_filter(scorer, name),
            value=number(value),
            correct=bool(value == 1) if name in score["verdicts"] and value in (0, 1) else None,
            answer=score["answer"],
            explanation=score["explanation"],
        )
        for scorer, score in line["scores"].items()
        for name, value in score["values"].items()
    ]
    unread = any(
        score.answer == "" or (score.explanation or "").startswith(_NOT_MATCHED) for score in scores[:1]
    )
    status: Literal["ok", "error", "unparsed"] = "unparsed" if unread else "ok"
    notes = {key: line[key] for key in ("error", "limit", "stop_reason") if line[key] is not None}
    of_category = None if category is None else line["metadata"].get(category)
    return Sample(
        native_id=line["id"],
        repeat_idx=operator.index(line["epoch"]) - 1,
        task=task,
        input=line["input"],
        output=line["output"],
        category=None if of_category is None else str(of_category),
        reference=" | ".join(line["target"]),
        choices=line["choices"],
        scores=scores,
        status="error" if line["output"] is None or line["error"] else status,
        cut=False,
        metadata={**line["metadata"], **notes, "n_messages": line["n_messages"]},
        prompts=line["prompts"],
    )


def _filter(scorer: str, name: str) -> str:
    """Returns what tells scores of one metric apart: the scorer, and of several values which."""
    return f"{scorer}/{name}" if name else scorer


def _metrics(
    row: dict[str, Any],
    task: str,
    repeats: int,
    lines: list[dict[str, Any]],
) -> Iterator[tuple[str, Metric]]:
    """Yields the metrics of one scorer and one reducer, each after its key in the log."""
    scorer, value = row["scorer"], "" if row["name"] == row["scorer"] else row["name"]
    written = {each["name"]: each["value"] for each in row["metrics"]}
    scored = [line["scores"][scorer]["verdicts"] for line in lines if scorer in line["scores"]]
    verdicts = bool(scored) and all(value in names_of for names_of in scored)
    reduced = f"_{row['reducer']}" if row["reducer"] not in (None, "mean") else ""
    n_scored = operator.index(row["n_scored"])
    if not 0 <= n_scored <= len(lines):
        raise ValueError(f"{scorer} has scored {n_scored!r:.20} of {len(lines)} samples")
    error = next((number(written[name]) for name in _ERRORS if name in written), None)
    # What is of a group of samples comes last: the whole leads.
    for each in sorted(row["metrics"], key=lambda each: each["of_group"] is not None):
        name, raw, is_mean = each["name"], number(each["value"]), each["name"] in MEANS
        if name in _ERRORS:
            continue
        scale = 1 if is_mean and verdicts else scales.scale(task, f"{value or scorer}_{name}", written)
        whole = not _is_part(each)
        yield (
            each["key"],
            Metric(
                task=task,
                metric=f"{name}{reduced}",
                filter=_filter(scorer, value),
                subset=None if each["of_group"] is None else str(each["of_group"]),
                value=proportion(raw, scale),
                harness_value=raw,
                harness_scale=scale,
                se=error if is_mean and whole and scale == 1 else None,
                n_items=n_scored if whole else None,
                n_repeats=repeats,
                is_group=bool(each["over_groups"]) and each["of_group"] is None,
            ),
        )


def _told_apart(metrics: Iterable[tuple[str, Metric]]) -> list[Metric]:
    """Returns metrics without those that are there twice, as one of all samples beside a grouped one is.

    Of two that differ in their value alone, the second one gets its key in its name.

    Raises:
        ValueError: It is then still not told apart.
    """
    found: dict[tuple[str | None, str, str | None], Metric] = {}
    for key, metric in metrics:
        place = metric.subset, metric.metric, metric.filter
        if place in found and found[place].harness_value != metric.harness_value:
            metric.metric += f"_{key}"
            place = metric.subset, metric.metric, metric.filter
            if place in found:
                raise ValueError(f"{metric.filter} has two values of {metric.metric}")
        found.setdefault(place, metric)
    return list(found.values())


def _is_part(metric: dict[str, Any]) -> bool:
    """Returns whether a metric is no mean over all samples: of a group of them, or over such groups."""
    return metric["of_group"] is not None or metric["over_groups"]
