"""Scores of bundles of containers: `results.yml` of NeMo Evaluator 0.1 and 0.2, flattened by 0.3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slurmeval.catalog.entries import catalog
from slurmeval.harnesses.base import Metric
from slurmeval.harnesses.nemo_bundle_lines import Mapped, clean
from slurmeval.harnesses.nemo_readers import tidy
from slurmeval.harnesses.nemo_readers.reading import no_proportion
from slurmeval.harnesses.nemo_results import scale_of
from slurmeval.harnesses.nemo_scores import results_metrics
from slurmeval.harnesses.scores import mark_primary

_OF_CATEGORIES = ("bfcl",)
"""Harnesses that write 0 for categories that never ran."""
_BY_SAMPLES = ("simple_evals", "helm")
"""Harnesses whose rules go by their samples, which bundles do not have. The first's scores are all 0 to 1,
the second's of any scale."""


def container_metrics(scores: Mapped, config: Mapping[str, Any], benchmark: str) -> list[Metric]:
    """Returns the scores, by the rules of the harness in the container (scale, which score leads).

    `scores` maps `<task>/<metric>/<score>` to value and stats; what has no finite value is left out. Of an
    unknown harness the scale is unknown too: there is `harness_value`, and no `value`. Where there are
    several tasks none leads.

    Raises:
        EvaluationFailed: There is no score (bad_result).
    """
    wrapped = harness_of(config)
    tasks: dict[str, Any] = {}
    for key in scores.values:
        score = scores.part(key)
        if score.get("stats") is not None:
            score.part("stats")
        task, _, rest = clean(key).partition("/")
        metric, slash, name = rest.rpartition("/")
        if not slash:  # what is no results.yml has flat names
            task, metric, name = benchmark, task, task
        of_task = tasks.setdefault(task, {"metrics": {}})["metrics"]
        of_task.setdefault(metric, {"scores": {}})["scores"][clean(name)] = score.values
    rows = results_metrics({"tasks": tasks}, scale_of(wrapped or ""), "benchmark.scores")
    if wrapped is not None and wrapped not in _BY_SAMPLES:
        rows = tidy(wrapped, rows, [])
    for row in rows:
        if wrapped in (None, "helm"):
            no_proportion(row)
        elif wrapped in _OF_CATEGORIES and row.harness_value == 0:
            # A bundle does not say which ran
            row.value = row.se = None
    parts = len(tasks) > 1
    for row in rows:
        # The rules expect the total, which `nel` leaves out where there are parts: then none stands for all
        row.is_primary = row.is_primary and not parts
    if not parts and not any(row.is_primary for row in rows):
        mark_primary(rows, str(config.get("task")), list(tasks))
    return rows


def harness_of(config: Mapping[str, Any]) -> str | None:
    """Returns the catalog's name of the harness, by the image, else by the task; None: it is unknown."""
    harnesses = catalog().harnesses
    image, task = str(config.get("image")), str(config.get("task"))
    name = image.rpartition("/")[2].partition("@")[0].partition(":")[0]
    for entry in harnesses.values():
        if entry.image.rpartition("/")[2] == name:
            return entry.name
    qualified = task.partition(".")[0]
    candidates = {qualified} & set(harnesses) or {each.harness for each in catalog().candidates(task)}
    return candidates.pop() if len(candidates) == 1 else None
