"""BigCode's harness (nvidia-bigcode-eval 26.3): programs for problems of several datasets.

`predictions.json` has the programs, a list for each problem in the dataset's order, and `metrics.json` the
scores. Neither the problems nor which program passed is in any file: a sample has a program and no score, and
its input is the problem's place in the dataset. The standard error is over programs, not problems: with
repeats it is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slurmeval.harnesses.base import Job, Metric, Sample
from slurmeval.harnesses.nemo_readers import lead, questions, repeats, within
from slurmeval.harnesses.nemo_readers.reading import json_value, laid_out_by, text_of
from slurmeval.harnesses.scores import bad_result


def read(job: Job, output: Path) -> list[Sample]:
    """Returns one sample for each program.

    Raises:
        EvaluationFailed: A file is not laid out as expected (bad_result).
    """
    written, scored = output / "predictions.json", output / "metrics.json"
    predictions, scores = json_value(written), json_value(scored)
    with laid_out_by("BigCode's harness", scored):
        config: dict[str, Any] = scores["config"]
        task, first, wanted = config["task"], config["limit_start"] or 0, config["n_samples"]
    with laid_out_by("BigCode's harness", written):
        within(job, len(predictions), "BigCode's harness")
        for number, programs in enumerate(predictions):
            if len(programs) != wanted:
                raise bad_result(
                    f"predictions.json: problem {first + number} has {len(programs)} programs, not {wanted}"
                )
        return [
            Sample(
                native_id=str(first + number),
                task=task,
                repeat_idx=repeat,
                input=f"{task}, problem {first + number}",
                output=text_of(program),
            )
            for number, programs in enumerate(predictions)
            for repeat, program in enumerate(programs)
        ]


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores by the harness's own rules."""
    for row in rows:
        row.higher_is_better = True
        row.n_items = questions(samples) or None
        row.n_repeats = repeats(samples)
        if row.n_repeats > 1:
            row.se = None
    lead(rows, "pass@1")
    return rows
