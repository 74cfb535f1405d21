"""NeMo Skills (image nemo-skills 26.03; not a package): math, science, code and agents' tasks.

`eval-results/<benchmark>/output.jsonl`, or `output-rs<i>.jsonl` for each repeat i, has one question a line:
the data's own fields, `generation` and what the evaluation adds. Written by the documented layout; no run of
the image was seen.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from slurmeval.harnesses.base import Job, Metric, Sample, Score
from slurmeval.harnesses.json_lines import json_lines
from slurmeval.harnesses.nemo_readers import repeats, within
from slurmeval.harnesses.nemo_readers.reading import laid_out_by, no_proportion, rescale, text_of
from slurmeval.harnesses.scores import bad_result, number

SCALE = 100
_REPEAT = re.compile(r"output-rs(\d+)\.jsonl")
_AVERAGED = re.compile(r"pass@1\[avg-of-(\d+)\]/.*")
_QUESTIONS = ("problem", "question", "prompt", "input")
_VERDICTS = ("symbolic_correct", "judge_correct", "is_correct", "correct", "passed", "success")
_CHECKED_LAST = ("symbolic_correct", "judge_correct", "is_correct", "correct")
"""Verdicts on an answer that was to be found in the output: with none found, they are False."""
_NO_SCORES = ("num_entries", "avg_tokens", "gen_seconds", "num_prompts", "num_instructions", "invalid_scores")
_WORSE = ("no_answer",)


def read(job: Job, output: Path) -> list[Sample]:
    """Returns one sample for each question and repeat.

    Raises:
        EvaluationFailed: A file is not laid out as expected (bad_result).
    """
    paths = sorted(output.glob("eval-results/**/output*.jsonl"))
    if not paths:
        raise bad_result("NeMo Skills wrote no answers (eval-results/<benchmark>/output*.jsonl)")
    samples: list[Sample] = []
    answered: dict[Path, int] = {}
    n_files = Counter(path.parent for path in paths)
    for path in paths:
        n = n_files[path.parent]
        mode = "pass@1" if n == 1 else f"pass@1[avg-of-{n}]"
        lines = json_lines(path)
        within(job, len(lines), f"NeMo Skills, {path.parent.name}/{path.name}")
        if answered.setdefault(path.parent, len(lines)) != len(lines):
            raise bad_result(f"{path.name}: {len(lines)} answers, in another repeat {answered[path.parent]}")
        found = _REPEAT.fullmatch(path.name)
        repeat = int(found[1]) if found else 0
        with laid_out_by("NeMo Skills", path):
            samples += [
                _sample(path.parent.name, mode, index, repeat, line) for index, line in enumerate(lines)
            ]
    return samples


def _sample(benchmark: str, mode: str, index: int, repeat: int, line: dict[str, Any]) -> Sample:
    question = next((line[key] for key in _QUESTIONS if line.get(key)), None)
    if question is None:
        raise KeyError(_QUESTIONS[0])
    output = text_of(line["generation"])
    answer = text_of(line.get("predicted_answer"))
    scores = [
        Score(f"{mode}/{key}", number(float(line[key])), correct=bool(line[key]), answer=answer)
        for key in _VERDICTS
        if isinstance(line.get(key), bool | int)
    ]
    looked_for = "predicted_answer" in line and any(key in line for key in _CHECKED_LAST)
    sample = Sample(
        native_id=str(line.get("id", index)),
        task=benchmark,
        repeat_idx=repeat,
        category=line.get("subset_for_metrics") or line.get("subtopic"),
        input=text_of(question) or "",
        output=output,
        reference=text_of(line.get("expected_answer")),
        scores=scores,
        metadata={"generated_tokens": line.get("num_generated_tokens"), "judgement": line.get("judgement")},
    )
    if not output:
        sample.output, sample.status = None, "error"
    elif looked_for and answer is None:
        sample.status = "unparsed"
    return sample


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores: the average over repeats leads (`pass@1[avg-of-k]`), without repeats `pass@1`.

    All are percentages, and under `groups` only: the benchmark itself first, then its subsets.
    """
    there = len({sample.repeat_idx for sample in samples})
    for row in rows:
        averaged = _AVERAGED.fullmatch(row.metric)
        if averaged and samples and averaged[1] != str(there):
            raise bad_result(f"results.yml: {row.metric}, and there are answers of {there} repeats")
        score = row.metric.rpartition("/")[2]
        row.is_group = False
        row.n_repeats = repeats(samples)
        if score in _NO_SCORES or "tokens" in score or "seconds" in score:
            no_proportion(row)
            row.higher_is_better = None
            continue
        rescale(row, SCALE)
        row.higher_is_better = score not in _WORSE
    best = [row for row in rows if row.harness_scale is not None and row.higher_is_better]
    averages = [row for row in best if row.metric.startswith("pass@1[")]
    singles = [row for row in best if row.metric.startswith("pass@1/")]
    for row in (averages or singles or best)[:1]:
        row.is_primary = True
    return rows
