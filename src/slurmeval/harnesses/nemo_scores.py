"""Scores in `results.yml` of NeMo Evaluator, of any wrapped harness, as metrics.

`results.{tasks|groups}.<task>.metrics.<metric>.scores.<score>.{value, stats}`; groups nest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, StrictFloat, StrictInt, ValidationError

from slurmeval.harnesses.base import Metric
from slurmeval.harnesses.json_lines import readable
from slurmeval.harnesses.lm_eval_questions import NOT_MEASURED
from slurmeval.harnesses.scores import bad_result, number, proportion, unmeasured

Scale = Callable[[str, str, Collection[str]], int | None]
"""What stands for a perfect score, by task, metric and the names of the task's metrics."""


class _Stats(BaseModel):
    count: Annotated[StrictInt | StrictFloat, Field(ge=0, lt=2**53)] | None = None
    stderr: Any = None


class _Score(BaseModel):
    value: Any
    stats: _Stats | None = None


class _Metric(BaseModel):
    scores: dict[str, _Score] | None = None


class _Body(BaseModel):
    metrics: dict[str, _Metric] | None = None
    groups: dict[str, _Body] | None = None


class Results(BaseModel):
    """Scores as NeMo lays them out."""

    tasks: dict[str, _Body] | None = None
    groups: dict[str, _Body] | None = None


def read_results(path: Path, scale: Scale) -> list[Metric]:
    """Returns the scores of a file.

    Raises:
        EvaluationFailed: It is none of NeMo's, is cut off, or has no score (bad_result).
    """
    try:
        with readable(path):
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise bad_result(f"{path.name}: not YAML: nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        raise bad_result(f"{path.name}: not YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        raise bad_result(f"{path.name}: has no results")
    if "target" not in content:
        # NeMo writes its keys in the order of their names: without the one after results, these may be cut.
        raise bad_result(f"{path.name}: is cut off: has no target, which NeMo writes after the results")
    rows = results_metrics(content["results"], scale, path.name)
    if not any(row.harness_value is not None for row in rows):
        raise bad_result(f"{path.name}: has no score{unmeasured(_numbers(content['results']))}")
    return rows


def results_metrics(results: Any, scale: Scale, name: str = "results.yml") -> list[Metric]:
    """Returns every score: tasks first, then groups (and groups of groups) that do not just repeat a task.

    A score that is no number has no value.
    """
    layout = _validated(results, name)
    tasks = layout.tasks or {}
    rows = [row for task, body in tasks.items() for row in _rows(task, body, scale, is_group=False)]
    seen: set[str] = set()
    for group, body in _groups(layout.groups):
        if group in seen:
            raise bad_result(f"{name}: not laid out as NeMo does: the group {group!r} stands in two places")
        seen.add(group)
        if group not in tasks:
            rows += _rows(group, body, scale, is_group=True)
    return rows


def _validated(results: Any, name: str) -> Results:
    try:
        layout = Results.model_validate(results)
        names = [*(layout.tasks or {}), *(group for group, _ in _groups(layout.groups))]
        "".join(names).encode()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("results", *first["loc"]))).encode(errors="replace").decode()
        raise bad_result(f"{name}: not laid out as NeMo does: {where}: {first['msg']}") from error
    except (RecursionError, UnicodeEncodeError) as error:
        raise bad_result(f"{name}: not laid out as NeMo does: {error!r}") from error
    return layout


def _groups(groups: dict[str, _Body] | None) -> Iterator[tuple[str, _Body]]:
    for name, body in (groups or {}).items():
        yield name, body
        yield from _groups(body.groups)


def _rows(task: str, body: _Body, scale: Scale, is_group: bool) -> Iterator[Metric]:
    metrics = body.metrics or {}
    beside = {name.partition("__")[0] for name in metrics}
    for name, entry in metrics.items():
        for score_name, score in (entry.scores or {}).items():
            metric, _, filter_name = name.partition("__")
            if metric == NOT_MEASURED:
                continue
            of, value, stats = scale(task, metric, beside), number(score.value), score.stats or _Stats()
            error = number(stats.stderr)
            yield Metric(
                task=task,
                metric=metric if score_name == name else f"{metric}/{score_name}",
                filter=filter_name or None,
                value=proportion(value, of),
                harness_value=value,
                harness_scale=of,
                se=None if error is None or of is None else error / of,
                n_items=None if stats.count is None else int(stats.count),
                higher_is_better=None,
                is_group=is_group,
            )


def _numbers(results: Any) -> dict[str, Any]:
    layout = _validated(results, "results.yml")
    return {
        f"{name} of {task}": score.value
        for task, body in [*(layout.tasks or {}).items(), *_groups(layout.groups)]
        for entry in (body.metrics or {}).values()
        for name, score in (entry.scores or {}).items()
    }
