"""MT-Bench (nvidia-mtbench-evaluator 26.3): ratings of a judge, 1 to 10, of both turns of each question.

`mtbench/<model>/[first_<n>/]responses/<model>.jsonl` has one question a line with both answers,
`judgements/<judge>_single.jsonl` one rating a line; -1 where the judge gave none after five tries.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slurmeval.harnesses.base import Job, Metric, Sample, Score
from slurmeval.harnesses.json_lines import json_lines
from slurmeval.harnesses.nemo_readers import questions, within
from slurmeval.harnesses.nemo_readers.reading import (
    conversation,
    laid_out_by,
    no_proportion,
    one_file,
    rescale,
)
from slurmeval.harnesses.scores import bad_result, number

SCALE = 10
_NO_RATING = -1
_METRIC = "average_score"


def read(job: Job, output: Path) -> list[Sample]:
    """Returns one sample for each turn.

    Raises:
        EvaluationFailed: A file is not laid out as expected (bad_result).
    """
    answers = one_file(output, "mtbench/**/responses/*.jsonl", "MT-Bench")
    judged = one_file(output, "mtbench/**/judgements/*_single.jsonl", "MT-Bench")
    asked = json_lines(answers)
    within(job, len(asked), "MT-Bench")
    with laid_out_by("MT-Bench", judged):
        lines = json_lines(judged)
        ratings = {(line["question_id"], line["turn"]): line for line in lines}
    with laid_out_by("MT-Bench", answers):
        wanted = [(question["question_id"], turn) for question in asked for turn in (1, 2)]
        if sorted(wanted) != sorted(ratings) or len(lines) != len(ratings):
            raise bad_result(f"{judged.name}: {len(lines)} ratings, where there are {len(wanted)} answers")
        return [
            _sample(question, turn, ratings[question["question_id"], turn])
            for question in asked
            for turn in (1, 2)
        ]


def _sample(question: dict[str, Any], turn: int, rating: dict[str, Any]) -> Sample:
    score = number(rating["score"])
    references = question.get("reference") or []
    return Sample(
        # Both turns under one number: they are two measurements of one question.
        native_id=str(question["question_id"]),
        task="mtbench",
        category=question["category"],
        # Without the model's first answer: the question is the same for every model.
        input=conversation([("user", text) for text in question["turns"][:turn]]),
        output=question["choices"][0]["turns"][turn - 1],
        reference=references[turn - 1] if len(references) >= turn else None,
        scores=[
            Score(
                metric=_METRIC,
                value=None if score is None or score == _NO_RATING else score / SCALE,
                explanation=rating["judgment"],
            )
        ],
        metadata={"turn": turn, "judge": rating["judge"]},
    )


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores: the average over all ratings leads.

    NeMo has it as a group that is named after the judge, and the categories as tasks. `num_missing` counts
    turns without a rating, which the averages leave out.
    """
    rated = [sample for sample in samples if sample.scores[0].value is not None]
    for row in rows:
        row.subset = None if row.is_group else row.task
        row.task = "mtbench"
        row.n_items = questions(sample for sample in rated if row.subset in (None, sample.category))
        if row.metric == _METRIC:
            rescale(row, SCALE)
            row.is_primary = row.is_group
            row.higher_is_better = True
        else:
            no_proportion(row)
            row.higher_is_better = False
        row.is_group = False
    return rows
