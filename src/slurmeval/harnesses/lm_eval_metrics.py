"""Scores that lm-eval wrote (`results_<time>.json`).

A task has keys `<metric>,<filter>` and `<metric>_stderr,<filter>`. Scores of groups are under `groups` too.
"""

from __future__ import annotations

from typing import Any

from slurmeval.harnesses import scales
from slurmeval.harnesses.base import Metric
from slurmeval.harnesses.lm_eval_lines import NO_FILTER
from slurmeval.harnesses.lm_eval_questions import NOT_MEASURED
from slurmeval.harnesses.lm_eval_samples import LmEvalFiles
from slurmeval.harnesses.scores import (
    bad_result,
    mark_primary,
    mean_over,
    number,
    proportion,
    unmeasured,
    unquoted,
)


def read_metrics(files: LmEvalFiles, task: str) -> list[Metric]:
    """Returns all scores of a run; the leading one is marked.

    Where lm-eval has no total of what was asked for (a tag, or a group without aggregation), the mean over
    its parts is added.

    Raises:
        EvaluationFailed: There is no score (bad_result).
    """
    results = files.results
    rows = all_metrics(results)
    if not any(row.harness_value is not None for row in rows):
        raise bad_result(f"{files.path.name}: has no score{unmeasured(_numbers(results['results']))}")
    parts = _parts(results)
    if (mean := mean_over(rows, task, parts)) is not None:
        rows.insert(0, mean)
    mark_primary(rows, task, parts)
    return rows


def all_metrics(results: dict[str, Any]) -> list[Metric]:
    """Returns all scores, each task once, in lm-eval's order."""
    groups: dict[str, Any] = results.get("groups") or {}
    return [
        _row(results, task, key, scores, is_group=task in groups)
        for task, scores in (groups | results["results"]).items()
        for key in scores
        if _measured(key)
    ]


def _measured(key: str) -> bool:
    metric, comma, _ = key.partition(",")
    return bool(comma) and not metric.endswith("_stderr") and metric != NOT_MEASURED


def _numbers(of_tasks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    every = [(task, key, raw) for task, scores in of_tasks.items() for key, raw in scores.items()]
    return {f"{key} of {task}": raw for task, key, raw in every if _measured(key)}


def _row(results: dict[str, Any], task: str, key: str, scores: dict[str, Any], is_group: bool) -> Metric:
    metric, _, filter_name = key.partition(",")
    leaves = [leaf for leaf in _leaves(results, task) if key in results["results"].get(leaf, {})]
    names = {each.partition(",")[0] for each in scores}
    scale = scales.scale(leaves[0] if leaves else task, metric, names)
    error_key = f"{metric}_stderr,{filter_name}"
    value, error = (number(unquoted(raw)) for raw in (scores[key], scores.get(error_key)))
    counts = results.get("n-samples") or {}
    return Metric(
        task=task,
        metric=metric,
        filter=None if filter_name == NO_FILTER else filter_name,
        value=proportion(value, scale),
        harness_value=value,
        harness_scale=scale,
        se=None if error is None or scale is None else error / scale,
        n_items=sum(counts[leaf]["effective"] for leaf in leaves) if leaves else None,
        n_repeats=int((results.get("configs") or {}).get(task, {}).get("repeats") or 1),
        higher_is_better=(results.get("higher_is_better") or {}).get(task, {}).get(metric),
        is_group=is_group,
        chance=scales.chance(task, metric),
        parts=leaves if is_group and leaves else None,
    )


def _leaves(results: dict[str, Any], task: str) -> list[str]:
    """Returns the tasks with questions under a task or group."""
    counted = results.get("n-samples") or {}
    below = (results.get("group_subtasks") or {}).get(task) or []
    return [task] if task in counted else [leaf for name in below for leaf in _leaves(results, name)]


def _parts(results: dict[str, Any]) -> list[str]:
    """Returns the tasks and groups with scores that belong to no group with scores."""
    named = {task for task, scores in results["results"].items() if any(map(_measured, scores))}
    below = {part for group in named for part in _below(results, group)}
    return [task for task in results["results"] if task in named - below]


def _below(results: dict[str, Any], group: str) -> list[str]:
    children = (results.get("group_subtasks") or {}).get(group) or []
    return [name for child in children for name in (child, *_below(results, child))]
