"""What NeMo Evaluator leaves behind, as metrics and samples.

`results.yml` has the scores of any wrapped harness; samples come from the wrapped harness's own files, where
their layout is known (lm-eval and BFCL here, all others in `nemo_readers`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from slurmeval.harnesses.base import HarnessOutput, Job, Metric, Sample
from slurmeval.harnesses.bfcl_results import read_bfcl
from slurmeval.harnesses.lm_eval_samples import LmEvalFiles, check_counts, read_metrics, read_samples
from slurmeval.harnesses.nemo_readers import reader, tidy
from slurmeval.harnesses.scores import bad_result, mark_primary, number, proportion
from slurmeval.harnesses.surroundings import task_name

_NOT_MEASURED = "bypass"


def read_output(job: Job, wrapped: str, output: Path, version: str) -> HarnessOutput:
    """All results of one attempt. Raises EvaluationFailed (bad_result)."""
    metrics = results_metrics(_results(output / "results.yml"), 100 if wrapped == "bfcl" else 1)
    if wrapped == "bfcl":
        result = _read_bfcl(job, metrics, output, version)
    elif wrapped == "lm-evaluation-harness":
        result = _read_lm_eval(job, metrics, output, version)
    else:
        result = _read_other(job, wrapped, metrics, output, version)
    if not result.metrics:
        raise bad_result("results.yml: has no score")
    return result


def _results(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise bad_result("NeMo Evaluator wrote no results.yml") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise bad_result(f"results.yml: not YAML: {' '.join(str(error).split())[:200]}") from error
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise bad_result("results.yml: has no results")
    return results


def results_metrics(results: dict[str, Any], scale: int) -> list[Metric]:
    """Every score in `results`: tasks first, then the groups (and groups of groups) that are not just a
    repeated task."""
    tasks = results.get("tasks") or {}
    try:
        metrics = [row for task, body in tasks.items() for row in _rows(task, body, scale, is_group=False)]
        for name, body in _groups(results.get("groups") or {}):
            if name not in tasks:
                metrics += _rows(name, body, scale, is_group=True)
    except (AttributeError, KeyError, TypeError) as error:
        raise bad_result(f"results.yml: not laid out as NeMo does: {error!r}") from error
    return metrics


def _groups(groups: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name, body in groups.items():
        found.append((name, body))
        found += _groups(body.get("groups") or {})
    return found


def _rows(task: str, body: dict[str, Any], scale: int, is_group: bool) -> list[Metric]:
    rows = []
    for name, entry in (body.get("metrics") or {}).items():
        for score_name, score in (entry.get("scores") or {}).items():
            metric, _, filter_name = name.partition("__")
            value = number(score.get("value"))
            if metric == _NOT_MEASURED or value is None:
                continue
            stats = score.get("stats") or {}
            error, count = number(stats.get("stderr")), number(stats.get("count"))
            rows.append(
                Metric(
                    task=task,
                    metric=metric if score_name == name else f"{metric}/{score_name}",
                    filter=filter_name or None,
                    value=proportion(value, scale),
                    harness_value=value,
                    harness_scale=scale,
                    se=None if error is None else error / scale,
                    n_items=None if count is None else int(count),
                    higher_is_better=None,
                    is_group=is_group,
                )
            )
    return rows


def _read_other(job: Job, wrapped: str, written: list[Metric], output: Path, version: str) -> HarnessOutput:
    """Samples where its own files are known here. How many requests one takes is not known."""
    check_responses(output, at_least=1)
    read = reader(wrapped)
    samples = read(job, output) if read is not None else []
    metrics = tidy(wrapped, written, samples)
    if not any(row.is_primary for row in metrics):
        mark_primary(metrics, task_name(job))
    return HarnessOutput(metrics, samples, None, version, None)


def _read_lm_eval(job: Job, written: list[Metric], output: Path, version: str) -> HarnessOutput:
    files = LmEvalFiles(output)
    samples = read_samples(files)
    n_requested = check_counts(files, samples, job.benchmark.limit)
    check_responses(output, at_least=samples.n_asked)
    metrics = read_metrics(files.results)
    own = {(row.task, row.metric, row.filter): row.harness_value for row in metrics}
    nemo = {(row.task, row.metric, row.filter): row.harness_value for row in written}
    if own != nemo:
        differing = sorted(str(key) for key in own.keys() | nemo.keys() if own.get(key) != nemo.get(key))
        raise bad_result(f"results.yml and {files.path.name} differ in {differing[0]}")
    mark_primary(metrics, task_name(job))
    return HarnessOutput(metrics, samples, n_requested, version, task_version(files.results, task_name(job)))


def task_version(results: dict[str, Any], task: str) -> str | None:
    """The version of the task that lm-eval wrote."""
    version = (results.get("versions") or {}).get(task)
    return None if version is None else str(version)


def _read_bfcl(job: Job, written: list[Metric], output: Path, version: str) -> HarnessOutput:
    metrics, samples, n_requested = read_bfcl(job, written, output)
    answered = [sample for sample in samples if sample.status != "error"]
    check_responses(output, at_least=len(answered))
    return HarnessOutput(metrics, samples, n_requested, version, "v3")


def response_count(output: Path) -> int | None:
    """How many good answers NeMo's adapter counted; None where it wrote no statistics."""
    path = output / "eval_factory_metrics.json"
    if not path.exists():
        return None
    try:
        stats = json.loads(path.read_bytes()).get("response_stats")
        return None if stats is None else int(stats["successful_count"])
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise bad_result(f"{path.name}: not laid out as NeMo does: {error!r}") from error


def check_responses(output: Path, at_least: int) -> None:
    """Raises EvaluationFailed (bad_result) where fewer answers came through this evaluation's own adapter
    than the samples took: then they came through somebody else's. (More may come: a request asked again.)"""
    counted = response_count(output)
    if counted is None:
        raise bad_result("NeMo's adapter left no statistics of responses (eval_factory_metrics.json)")
    if counted < at_least:
        raise bad_result(
            f"the samples took {at_least} requests, but only {counted} answers passed NeMo's adapter"
        )


__all__ = ["Sample", "check_responses", "read_output", "response_count", "results_metrics", "task_version"]
