"""SciCode (nvidia-scicode 26.3): problems of several steps.

Each step is asked with the model's own programs for the steps before it. In the output folder, under
`<model>/with_background` or `without_background`:

    scicode_results/prompt/…/<problem>.<step>.txt               the prompt of the last repeat
    scicode_results/generated_code/…/<problem>.<step>_<n>.py    what the model wrote, after the steps before
    logs/…/<problem>.<step>_<n>.txt                             pass, fail or time out
    scicode_results/<model>_<background>.json                   the scores

A step that could not be asked (an answer before it could not be read) has no file, and counts as wrong in the
scores. In the problems 13, 62 and 76 SciCode skips one step but counts by number: their last step is not in
its scores. Where one of the two happened, the mean over samples differs from SciCode's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slurmeval.harnesses.base import Job, Metric, Sample, Score
from slurmeval.harnesses.nemo_readers import lead, repeats, within
from slurmeval.harnesses.nemo_readers.reading import json_value, laid_out_by, one_file
from slurmeval.harnesses.scores import bad_result

_STEPS = "steps_pass@1"
_NEXT = "NEXT STEP - "
"""Where the part of the prompt begins that is the same for every model."""


def read(job: Job, output: Path) -> list[Sample]:
    """Returns one sample for each step and repeat.

    Raises:
        EvaluationFailed: A file is not laid out as expected (bad_result).
    """
    results = output / "scicode_results"
    path = one_file(results, "*.json", "SciCode")
    scores = json_value(path)
    with laid_out_by("SciCode", path):
        programs = sorted(results.glob("generated_code/*/*/*_*.py"), key=_order)
        samples = [_sample(program, output) for program in programs]
        _check(samples, scores)
    within(job, len({sample.category for sample in samples}), "SciCode")
    return samples


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores by the harness's own rules."""
    for row in rows:
        row.higher_is_better = True
        row.n_repeats = repeats(samples)
        if row.metric != _STEPS:
            row.n_items = len({sample.category for sample in samples}) or None
    lead(rows, _STEPS)
    return rows


def _order(path: Path) -> tuple[int, ...]:
    problem, step, repeat = _numbers(path)
    return int(problem), int(step), int(repeat)


def _numbers(path: Path) -> tuple[str, str, str]:
    """Returns problem, step and repeat of a name such as `12.3_0.py`."""
    name, _, repeat = path.stem.partition("_")
    problem, _, step = name.partition(".")
    return problem, step, repeat


def _sample(path: Path, output: Path) -> Sample:
    problem, step, repeat = _numbers(path)
    where = path.parent.relative_to(output / "scicode_results" / "generated_code")
    asked = _read(output / "scicode_results" / "prompt" / where / f"{problem}.{step}.txt")
    verdict = _read(output / "logs" / where / f"{path.stem}.txt").strip()
    if verdict not in ("pass", "fail", "time out"):
        raise bad_result(f"logs/{where}/{path.stem}.txt: neither pass, fail nor time out")
    return Sample(
        native_id=f"{problem}.{step}",
        task="scicode",
        repeat_idx=int(repeat),
        category=problem,
        input=asked[max(0, asked.find(_NEXT)) :],
        output=path.read_text(encoding="utf-8"),
        scores=[
            Score(
                metric=_STEPS,
                value=float(verdict == "pass"),
                correct=verdict == "pass",
                explanation=None if verdict == "pass" else verdict,
            )
        ],
        metadata={"prompt": asked},
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise bad_result(f"SciCode wrote no {path.parent.parent.parent.name}/…/{path.name}") from error


def _check(samples: list[Sample], scores: dict[str, Any]) -> None:
    """Checks the logs against SciCode's own count.

    Raises:
        EvaluationFailed: They differ (bad_result).
    """
    passed = sum(bool(sample.scores[0].correct) for sample in samples)
    counted = sum(count for steps in scores["num_correct"].values() for count in steps.values())
    if passed != counted:
        raise bad_result(f"SciCode counts {counted} steps that passed, but its logs have {passed}")
