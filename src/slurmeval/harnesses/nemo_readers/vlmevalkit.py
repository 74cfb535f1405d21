"""VLMEvalKit (nvidia-vlmeval 26.3): questions about images.

`<model>/T<day>_G<commit>/<model>_<dataset>.xlsx` has one question a line with the model's `prediction`;
`<model>_<dataset>_<judge>[_result].xlsx` the same with what the judge made of it (`hit` for multiple choice,
`res` for MathVista). Beside the folder of the day lie links to the same files.
"""

from __future__ import annotations

from pathlib import Path

from slurmeval.harnesses.base import Job, Metric, Sample, Score
from slurmeval.harnesses.nemo_readers import within
from slurmeval.harnesses.nemo_readers.reading import laid_out_by, number_in, rescale, xlsx_rows
from slurmeval.harnesses.scores import bad_result

_PRIMARY = ("accuracy", "anls")
_FAILED = "Failed to obtain answer via API"
_GROUPS = ("mmmu", "ai2d", "chartqa", "mathvista", "ocrbench", "slidevqa", "ocr_reasoning")
_PERCENT_TASKS = ("mathvista",)
"""Datasets whose group is on 0..1 and whose tasks are in percent."""
_SPLITS = {"none": "", "validation": "/val"}
"""What NeMo makes of a split's name in the name of a score."""


def read(job: Job, output: Path) -> list[Sample]:
    """Returns one sample for each question; of the image only that there was one.

    Raises:
        EvaluationFailed: A file is not laid out as expected (bad_result).
    """
    books = sorted(output.glob("*/T*_G*/*.xlsx"), key=lambda path: len(path.name))
    if not books:
        raise bad_result("VLMEvalKit wrote no predictions (<model>/T*/<model>_<dataset>.xlsx)")
    path = books[0]
    rows = xlsx_rows(path)
    within(job, len(rows), "VLMEvalKit")
    judged: dict[str, dict[str, str]] = {}
    for book in books[1:]:
        for row in xlsx_rows(book):
            if "index" in row and ("hit" in row or "res" in row):
                judged[row["index"]] = row
    group = _group(job.benchmark.task)
    with laid_out_by("VLMEvalKit", path):
        return [_sample(group, row, judged.get(row["index"], {})) for row in rows]


def _group(task: str) -> str:
    """Returns NeMo's name of the whole of a task's dataset: `mmmu` of `vlmevalkit.mmmu_judge`."""
    name = task.partition(".")[2].lower()
    return next((group for group in _GROUPS if group in name.replace("-", "_")), name)


def _sample(group: str, row: dict[str, str], judged: dict[str, str]) -> Sample:
    choices = [row[letter] for letter in "ABCDEFGH" if letter in row]
    hit = number_in(judged.get("hit"))
    failed = row.get("prediction", "").startswith(_FAILED)
    scores = []
    if judged:
        scores = [
            Score(
                metric=f"accuracy{_split(judged)}",
                value=hit,
                correct=None if hit is None else bool(hit),
                answer=judged.get("res"),
                explanation=judged.get("log"),
            )
        ]
    return Sample(
        native_id=row["index"],
        task=group,
        category=row.get("task") or row.get("category") or row.get("split"),
        input=row["question"],
        output=None if failed else row.get("prediction"),
        reference=row.get("answer"),
        choices=choices or None,
        scores=scores,
        status="error" if failed or "prediction" not in row else "ok",
    )


def _split(row: dict[str, str]) -> str:
    name = row.get("split") or "none"
    return _SPLITS.get(name, f"/{name}")


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores: the score over all leads.

    NeMo writes MathVista's tasks in percent and its group on 0 to 1.
    """
    percent = any(row.is_group and row.task in _PERCENT_TASKS for row in rows)
    for row in rows:
        if percent and not row.is_group:
            rescale(row, 100)
        if row.metric == "prefetch_rate":
            # How many answers could be read without a judge: says nothing of the model's quality.
            row.higher_is_better = None
            continue
        row.higher_is_better = True
    whole = [row for row in rows if row.is_group]
    for row in whole:
        # Not an average over the tasks, but over all questions.
        row.is_group = False
    for row in [row for row in whole if row.metric.partition("/")[0] in _PRIMARY][:1]:
        row.is_primary = True
        row.n_items = row.n_items or len(samples)
    return rows
