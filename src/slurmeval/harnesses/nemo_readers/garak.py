"""Garak (nvidia-eval-factory-garak 26.3, garak 0.14.0): probes for weaknesses, answers judged by detectors.

`garak/garak_runs/results.report.jsonl` has a line for each attempt (a prompt with its answers and, in
`detector_results`, a score for each answer: 0 passed, 1 hit) and an `eval` line for each probe and detector.
NeMo's `pass_rate` of a probe is that of its last detector only, and its count is not what garak counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slurmeval.harnesses.base import Job, Metric, Sample, Score
from slurmeval.harnesses.json_lines import json_lines
from slurmeval.harnesses.nemo_readers import questions
from slurmeval.harnesses.nemo_readers.reading import conversation, laid_out_by, one_file
from slurmeval.harnesses.scores import bad_result, mark_primary, mean_over, number, wholes

_METRIC = "pass_rate"
_THRESHOLD = 0.5
"""garak's own, where the report does not say it: a detector's score from here on is a hit."""
_EVALUATED = 2
"""The status of an attempt that all detectors have seen; the same attempt stands there before with 1."""


def read(job: Job, output: Path) -> list[Sample]:
    """Returns one sample for each answer of each attempt.

    Raises:
        EvaluationFailed: The report is not laid out as expected (bad_result).
    """
    path = one_file(output, "garak/garak_runs/results.report.jsonl", "garak")
    lines = json_lines(path)
    with laid_out_by("garak", path):
        attempts = [
            line for line in lines if line["entry_type"] == "attempt" and line["status"] == _EVALUATED
        ]
        if not any(line["entry_type"] == "completion" for line in lines):
            raise bad_result(f"{path.name}: garak did not get to its end")
        thresholds = [line["run.eval_threshold"] for line in lines if "run.eval_threshold" in line]
        threshold = float(thresholds[0]) if thresholds else _THRESHOLD
        return [sample for attempt in attempts for sample in _samples(attempt, threshold)]


def _samples(attempt: dict[str, Any], threshold: float) -> list[Sample]:
    turns = attempt["prompt"]["turns"] if isinstance(attempt["prompt"], dict) else []
    asked = [(turn["role"], turn["content"]["text"]) for turn in turns]
    return [
        Sample(
            # By place: its uuid is a new one in each run.
            native_id=f"{attempt['probe_classname']}/{attempt['seq']}",
            task=attempt["probe_classname"],
            repeat_idx=position,
            category=attempt["probe_classname"],
            input=conversation(asked) if turns else str(attempt["prompt"]),
            output=_text(answer),
            scores=_scores(attempt["detector_results"], position, threshold),
            status="ok" if _text(answer) else "error",
            metadata={"goal": attempt["goal"]},
        )
        for position, answer in enumerate(attempt["outputs"])
    ]


def _text(answer: Any) -> str | None:
    text = answer["text"] if isinstance(answer, dict) else answer
    return None if text is None else str(text)


def _scores(results: dict[str, list[Any]], position: int, threshold: float) -> list[Score]:
    """Returns 1 for a detector that found nothing; None where it could not tell."""
    scores = []
    for detector, hits in results.items():
        hit = number(hits[position]) if position < len(hits) else None
        passed = None if hit is None else hit < threshold
        scores.append(
            Score(
                metric=_METRIC,
                filter=detector,
                value=None if passed is None else float(passed),
                correct=passed,
                answer=None if hit is None else f"{hit:g}",
            )
        )
    return scores


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns `pass_rate` as NeMo has it, one for each probe, with its detector and the number of attempts.

    garak has no average over probes: the mean of the probes leads, marked as slurmeval's.
    """
    mean = mean_over(rows, "garak", wholes(rows))
    last = {sample.task: sample.scores[-1].filter for sample in samples if sample.scores}
    for row in rows:
        row.higher_is_better = True
        row.filter = last.get(row.task)
        row.n_items = None
    if mean is None:
        mark_primary(rows, "garak", wholes(rows))
        return rows
    mean.is_primary, mean.n_items = True, questions(samples) or None
    return [mean, *rows]
