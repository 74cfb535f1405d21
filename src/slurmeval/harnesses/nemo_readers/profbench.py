"""ProfBench (nvidia-profbench 26.3): reports by professional rubrics, or a judge against people's verdicts.

`report_generation` writes `<model>_….jsonl` with one report a line, and `judgements/<same name>` with one
criterion of one report a line; the judge is the model itself. `llm_judge` writes `<model>_….jsonl` with one
criterion a line and what people said. Both write `*_eval.json`. Lines are in the order of their end, and the
questions are drawn in a new order by each run. Requests that failed leave no line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slurmeval.harnesses.base import Job, Metric, Sample, Score
from slurmeval.harnesses.json_lines import json_lines
from slurmeval.harnesses.nemo_readers.reading import (
    laid_out_by,
    no_proportion,
    one_file,
    rescale,
)
from slurmeval.harnesses.scores import bad_result

SCALE = 100
_WEIGHTS = {"Critical": 4, "Major": 3, "Minor": 2, "Additional": 1}
_OVERALL = "Overall"
_NO_SCORES = ("prompt_tokens", "completion_tokens", "response_len_chars")
_BIASES = ("o3", "r1-0528", "grok4", "BIAS-INDEX", "MF1-BI")
"""Of llm_judge: differences in points, which may be negative."""


def read(job: Job, output: Path) -> list[Sample]:
    """Returns one sample for each report, or for each criterion judged.

    Raises:
        EvaluationFailed: A file is not laid out as expected (bad_result).
    """
    path = one_file(output, "*_reasoning_*.jsonl", "ProfBench")
    lines = json_lines(path)
    limit = job.benchmark.limit
    if limit is not None and len(lines) != limit:
        raise bad_result(f"{path.name}: {limit} questions were asked for, and {len(lines)} were answered")
    if not (output / "judgements").is_dir():
        with laid_out_by("ProfBench", path):
            return sorted((_verdict(line) for line in lines), key=lambda sample: sample.native_id)
    judged = one_file(output, "judgements/*_reasoning_*.jsonl", "ProfBench")
    with laid_out_by("ProfBench", judged):
        criteria: dict[tuple[str, str], list[dict[str, Any]]] = {}
        verdicts = json_lines(judged)
        for line in verdicts:
            criteria.setdefault((line["task_id"], line["response"]), []).append(line)
    with laid_out_by("ProfBench", path):
        wanted = sum(len(line["rubrics"]) for line in lines)
        # The limit holds for the criteria of all reports together too.
        if len(verdicts) != (wanted if limit is None else min(limit, wanted)):
            raise bad_result(f"{judged.name}: {len(verdicts)} of {wanted} criteria were judged")
        lines.sort(key=lambda line: (line["task_id"], line["idx"]))
        seen: dict[str, int] = {}
        samples = []
        for line in lines:
            task = line["task_id"]
            seen[task] = seen.get(task, -1) + 1
            samples.append(_report(line, seen[task], criteria.get((task, line["response"]), [])))
        return samples


def _report(line: dict[str, Any], repeat: int, judged: list[dict[str, Any]]) -> Sample:
    """Returns a report, scored with the weighted share of its judged criteria that it fulfils."""
    reached = sum(
        _WEIGHTS[one["criterion_weight"]] for one in judged if one["judge_rating"].startswith("Yes")
    )
    highest = sum(_WEIGHTS[one["criterion_weight"]] for one in judged)
    met = sum(one["judge_rating"].startswith("Yes") for one in judged)
    return Sample(
        native_id=line["task_id"],
        task="report_generation",
        repeat_idx=repeat,
        category=line["domain"],
        input=line["prompt"],
        output=line["response"],
        scores=[
            Score(
                metric="fulfilment",
                value=reached / highest if highest else None,
                explanation=f"{met} of {len(judged)} judged criteria met, of {len(line['rubrics'])}",
            )
        ],
        metadata={"criteria": [{key: one[key] for key in _CRITERION} for one in judged]},
    )


_CRITERION = ("criterion_description", "criterion_weight", "judge_rating")


def _verdict(line: dict[str, Any]) -> Sample:
    """Returns a criterion on which the model's verdict is compared with a person's."""
    rating = line["judge_rating"].strip()
    right = rating.startswith("Yes") == bool(line["human_annotation"])
    return Sample(
        native_id=f"{line['task_id']}/{line['model']}/{line['criterion_description']}",
        task="llm_judge",
        category=line["domain"],
        input=f"Response:\n\n{line['response']}\n\nCriterion: {line['criterion_description']}",
        output=line["judge_rating"],
        reference="Yes" if line["human_annotation"] else "No",
        scores=[Score(metric="agreement", value=float(right), correct=right, answer=rating)],
        metadata={"criterion_type": line["criterion_type"], "report_of": line["model"]},
    )


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores: `Overall` leads (the mean over domains, or the macro F1).

    All are percentages, but token counts and biases, which are no proportions. A score of domains or criteria
    that no sample is of is left out: it stands there as 0.
    """
    kept = []
    domains = {sample.category for sample in samples}
    for row in rows:
        if row.metric.endswith(("PhD", "MBA")) and row.metric not in domains:
            continue
        rescale(row, SCALE)
        row.higher_is_better = None
        if row.metric in _NO_SCORES or row.metric in _BIASES:
            no_proportion(row)
        else:
            row.higher_is_better = True
            row.is_primary = row.metric == _OVERALL
        if row.metric == _OVERALL:
            row.n_items = len(samples)
        elif row.metric in domains:
            row.subset = row.metric
            row.n_items = sum(sample.category == row.metric for sample in samples)
        kept.append(row)
    return kept
