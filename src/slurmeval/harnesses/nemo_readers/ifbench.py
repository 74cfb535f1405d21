"""IFBench (nvidia-ifbench 26.3): answers that follow instructions or do not.

`eval_results_strict.jsonl` and `eval_results_loose.jsonl` have one answer a line, with each of its
instructions followed or not; `metrics.json` has the scores. The prompt-level scores are means over answers.
Those of instructions are means over instructions, and are left as IFBench wrote them. The loose one leads, as
in IFBench's paper.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slurmeval.harnesses.base import Job, Metric, Sample, Score
from slurmeval.harnesses.json_lines import json_lines
from slurmeval.harnesses.nemo_readers import lead, within
from slurmeval.harnesses.nemo_readers.reading import laid_out_by
from slurmeval.harnesses.scores import bad_result

_MODES = ("strict", "loose")


def read(job: Job, output: Path) -> list[Sample]:
    """Returns one sample for each answer.

    Raises:
        EvaluationFailed: A file is not laid out as expected (bad_result).
    """
    path = output / "eval_results_loose.jsonl"
    strict, loose = json_lines(output / "eval_results_strict.jsonl"), json_lines(path)
    answers = json_lines(output / "output.jsonl")
    if not len(strict) == len(loose) == len(answers):
        raise bad_result(
            f"IFBench answered {len(answers)} prompts, and scored {len(strict)} strictly, "
            f"{len(loose)} loosely"
        )
    within(job, len(answers), "IFBench")
    with laid_out_by("IFBench", path):
        pairs = zip(strict, loose, strict=True)
        return [_sample(position, by_mode) for position, by_mode in enumerate(pairs)]


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores by the harness's own rules."""
    for row in rows:
        row.higher_is_better = True
    lead(rows, "loose:prompt-level")
    return rows


def _sample(position: int, by_mode: tuple[dict[str, Any], ...]) -> Sample:
    strict, loose = by_mode
    if strict["prompt"] != loose["prompt"] or strict["response"] != loose["response"]:
        raise bad_result(f"eval_results_loose.jsonl:{position + 1}: of another answer than the strict one")
    return Sample(
        native_id=str(position),
        task="ifbench",
        input=strict["prompt"],
        output=strict["response"],
        scores=[
            Score(
                metric=f"{mode}:prompt-level",
                value=float(entry["follow_all_instructions"]),
                correct=bool(entry["follow_all_instructions"]),
                explanation=_explanation(entry),
            )
            for mode, entry in zip(_MODES, by_mode, strict=True)
        ],
        metadata={"instructions": strict["instruction_id_list"]},
    )


def _explanation(entry: dict[str, Any]) -> str:
    followed = zip(entry["instruction_id_list"], entry["follow_instruction_list"], strict=True)
    return "; ".join(f"{name}: {'followed' if was else 'not followed'}" for name, was in followed)
