"""HELM for medicine (nvidia-crfm-helm 25.10).

`runs/<suite>/<run>/scenario_state.json` has every request with its instance and answer,
`per_instance_stats.json` the scores of each, `stats.json` their means. HELM asks the splits `valid` and
`test`; what it reports is `test`, and so is what is read here. NeMo writes the mean of whichever split comes
last, and 0.0 for scores that nothing was counted for: a score's value is the mean over the samples, and what
NeMo wrote is kept beside it. A jury of judges gives marks of 1 to 5; their value here is (mark - 1) / 4.
"""

from __future__ import annotations

import math
import operator
from pathlib import Path
from typing import Any

from slurmeval.harnesses.base import Job, Metric, Sample, Score
from slurmeval.harnesses.nemo_readers import lead, questions, within
from slurmeval.harnesses.nemo_readers.reading import (
    json_value,
    laid_out_by,
    mean_of,
    no_proportion,
    one_file,
)
from slurmeval.harnesses.sample_checks import each_once
from slurmeval.harnesses.scores import bad_result, proportion

_LEADING = {
    "medcalc_bench": "medcalc_bench_accuracy",
    "medec": "medec_error_flag_accuracy",
    "ehr_sql": "ehr_sql_execution_accuracy",
}
"""The score that HELM's own leaderboard shows, where it is neither a jury's nor exact_match."""
_JURIES = frozenset(
    ("mtsamples_replicate", "aci_bench", "mtsamples_procedures", "medication_qa", "med_dialog", "medi_qa")
)
_COMMON = (
    "score/exact_match",
    "score/quasi_exact_match",
    "score/prefix_exact_match",
    "score/quasi_prefix_exact_match",
    "score/f1_score",
)
_BEST_MARK = 5
_SPLIT = "test"
_Key = tuple[str, int]


def read(job: Job, output: Path) -> list[Sample]:
    """Returns one sample for each instance of the split `test`.

    Raises:
        EvaluationFailed: A file is not laid out as expected (bad_result).
    """
    folder = one_file(output, "runs/*/*/stats.json", "HELM").parent
    # `med_dialog` of `med_dialog:subset=icliniq,model=…`
    task = folder.name.partition(":")[0]
    asked, scored = folder / "scenario_state.json", folder / "per_instance_stats.json"
    state, stats = json_value(asked), json_value(scored)
    with laid_out_by("HELM", scored):
        by_instance = _by_instance(stats)
    with laid_out_by("HELM", asked):
        own = [
            request
            for request in state["request_states"]
            if request["instance"]["split"] == _SPLIT and "perturbation" not in request["instance"]
        ]
        everything = {_key(request) for request in state["request_states"]}
        for instance, trial in sorted(everything ^ by_instance.keys()):
            where = asked if (instance, trial) in everything else scored
            raise bad_result(f"{folder.name}: instance {instance}, trial {trial}, is in {where.name} only")
        samples = [_sample(task, request, by_instance) for request in own]
    within(job, questions(samples), "HELM")
    return each_once(samples, asked)


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores, with the mean over the samples as their value."""
    for row in rows:
        scores = [score for sample in samples for score in sample.scores if score.metric == row.metric]
        values = [score.value for score in scores if score.value is not None]
        if len(values) < len(scores):  # what was left out here HELM has not left out
            values = []
        if not values:
            no_proportion(row)
        elif row.metric in _marks(samples):
            row.harness_scale = _BEST_MARK
        row.value = math.fsum(values) / len(values) if values else None
        row.se, row.n_items, row.is_group = None, len(values) or None, False
        row.higher_is_better = True if values else None
    lead(rows, _leading(samples[0].task))
    return rows


def _marks(samples: list[Sample]) -> set[str]:
    """Returns the scores that a jury gave."""
    return {_leading(sample.task) for sample in samples if sample.task in _JURIES}


def _leading(task: str) -> str:
    name = f"{task}_accuracy" if task in _JURIES else _LEADING.get(task, "exact_match")
    return f"score/{name}"


def _by_instance(stats: list[dict[str, Any]]) -> dict[_Key, list[dict[str, Any]]]:
    found: dict[_Key, list[dict[str, Any]]] = {}
    for entry in stats:
        if "perturbation" not in entry:
            key = (str(entry["instance_id"]), operator.index(entry["train_trial_index"]))
            found.setdefault(key, []).extend(entry["stats"])
    return found


def _key(request: dict[str, Any]) -> _Key:
    return str(request["instance"]["id"]), operator.index(request["train_trial_index"])


def _sample(task: str, request: dict[str, Any], stats: dict[_Key, list[dict[str, Any]]]) -> Sample:
    instance, key = request["instance"], _key(request)
    completions = (request.get("result") or {}).get("completions") or []
    right = [one["output"]["text"] for one in instance["references"] if "correct" in one["tags"]]
    options = request.get("output_mapping")
    return Sample(
        native_id=key[0],
        task=task,
        repeat_idx=key[1],
        input=instance["input"]["text"],
        output=completions[0]["text"] if completions else None,
        reference="\n".join(right) or None,
        choices=[f"{letter}. {option}" for letter, option in options.items()] if options else None,
        scores=_scores(task, stats[key]),
        status="ok" if completions else "error",
        metadata={"prompt": request["request"]["prompt"]},
    )


def _scores(task: str, stats: list[dict[str, Any]]) -> list[Score]:
    """Returns the leading score and other common ones; not lengths, times and the like."""
    scores = []
    for stat in stats:
        name = f"score/{stat['name']['name']}"
        if name not in (_leading(task), *_COMMON) or not stat.get("count"):
            continue
        mark = mean_of(stat)
        of_jury = name == _leading(task) and task in _JURIES
        value = proportion((mark - 1) / 4 if of_jury and mark is not None else mark, 1)
        correct = bool(value) if not of_jury and value in (0.0, 1.0) else None
        scores.append(Score(metric=name, value=value, correct=correct))
    return scores
