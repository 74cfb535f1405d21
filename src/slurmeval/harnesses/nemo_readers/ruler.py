"""RULER (nvidia-long-context-eval 26.3): synthetic long prompts, scored by the strings that the answer holds.

`<model>/synthetic/<length>/pred/<subtask>.jsonl` has one answer a line, `per_sample_scores.json` their scores
(0 to 100) in the same order, `summary.csv` the averages. A request without an answer leaves no line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slurmeval.harnesses.base import Job, Metric, Sample, Score
from slurmeval.harnesses.json_lines import json_lines
from slurmeval.harnesses.nemo_readers.reading import (
    json_value,
    laid_out_by,
    no_proportion,
    one_file,
)
from slurmeval.harnesses.sample_checks import each_once
from slurmeval.harnesses.scores import bad_result, number

_METRIC = "accuracy"
_DEFAULT_LIMIT = 500


def read(job: Job, output: Path) -> list[Sample]:
    """Returns all answers of all subtasks.

    Raises:
        EvaluationFailed: A file is not laid out as expected (bad_result).
    """
    path = one_file(output, "*/synthetic/*/pred/per_sample_scores.json", "RULER")
    scores = json_value(path)
    wanted = job.benchmark.limit or _DEFAULT_LIMIT
    samples = []
    with laid_out_by("RULER", path):
        for subtask, values in scores.items():
            answers = json_lines(path.with_name(f"{subtask}.jsonl"))
            if not len(answers) == len(values) == wanted:
                raise bad_result(
                    f"{subtask}: {wanted} questions were to be asked, {len(answers)} were answered and "
                    f"{len(values)} scored"
                )
            samples += [
                _sample(subtask, answer, value) for answer, value in zip(answers, values, strict=True)
            ]
    return each_once(samples, path)


def _sample(subtask: str, answer: dict[str, Any], percent: Any) -> Sample:
    score = number(percent)
    return Sample(
        native_id=f"{subtask}/{answer['index']}",
        task=subtask,
        category=subtask,
        input=answer["input"],
        output=answer["pred"],
        reference="\n".join(map(str, answer["outputs"])),
        scores=[Score(metric=_METRIC, value=None if score is None else score / 100)],
        status="error" if answer["pred"] is None else "ok",
        metadata={"length": answer["length"], **({"others": answer["others"]} if answer["others"] else {})},
    )


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores: the average over the subtasks leads, and counts all their answers.

    NeMo gives the count of one subtask.
    """
    groups = [row for row in rows if row.is_group]
    for row in rows:
        if row.metric != _METRIC:
            no_proportion(row)
            row.higher_is_better = False
            continue
        row.higher_is_better = True
        row.is_primary = row.is_group or not groups
        if row.is_group:
            row.n_items = len(samples)
    return rows
