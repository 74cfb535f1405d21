"""Humanity's Last Exam (nvidia-hle 26.3): questions with short answers, judged.

`hle_<model>.json` has the answers by the question's id, `judged_hle_<model>.json` the same with the judge's
verdict, `results_hle_<model>.json` the scores. No file has the questions: a sample's input is the question's
id. HLE counts an answer that the judge could not be asked about as wrong. Here it has no score, and neither
has the accuracy over it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slurmeval.harnesses.base import Job, Metric, Sample, Score
from slurmeval.harnesses.nemo_readers import lead, questions, within
from slurmeval.harnesses.nemo_readers.reading import json_value, laid_out_by, no_proportion, one_file
from slurmeval.harnesses.scores import bad_result, proportion

_PERCENT = "accuracy/confidence_half_width"
_NO_PROPORTION = "accuracy/calibration_error"
"""HLE compares confidences of 0..100 with answers of 0 or 1: the number means nothing."""


def read(job: Job, output: Path) -> list[Sample]:
    """Returns one sample for each answer.

    Raises:
        EvaluationFailed: A file is not laid out as expected (bad_result).
    """
    path = one_file(output, "judged_hle_*.json", "HLE")
    answers = json_value(path.with_name(path.name.removeprefix("judged_")))
    verdicts = json_value(path)
    with laid_out_by("HLE", path):
        missing = sorted(answers.keys() ^ verdicts.keys())
        if missing:
            raise bad_result(f"{path.name}: the question {missing[0]} was answered or judged, but not both")
        samples = [_sample(name, entry) for name, entry in verdicts.items()]
    within(job, questions(samples), "HLE")
    if all(sample.scores[0].value is None for sample in samples):
        raise bad_result(f"HLE's judge gave no verdict on any of {len(samples)} answers")
    return samples


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores by the harness's own rules."""
    for row in rows:
        row.higher_is_better = row.metric == "accuracy"
        if row.metric == _PERCENT:
            row.harness_scale, row.value = 100, proportion(row.harness_value, 100)
        elif row.metric == _NO_PROPORTION:
            no_proportion(row)
        elif _unjudged(row, samples):
            row.value = row.se = None
    lead(rows, "accuracy")
    return rows


def _unjudged(row: Metric, samples: list[Sample]) -> bool:
    return row.metric == "accuracy" and any(sample.scores[0].value is None for sample in samples)


def _sample(name: str, entry: dict[str, Any]) -> Sample:
    verdict = entry["judge_response"]
    correct = None if verdict["api_error"] else verdict["correct"] == "yes"
    return Sample(
        native_id=name,
        task="hle",
        input=name,
        output=entry["response"],
        reference=str(verdict["correct_answer"]),
        scores=[
            Score(
                metric="accuracy",
                value=None if correct is None else float(correct),
                correct=correct,
                answer=None if correct is None else verdict["model_answer"],
                explanation="the judge could not be asked" if correct is None else verdict["reasoning"],
            )
        ],
        metadata={"confidence": verdict["confidence"]},
    )
