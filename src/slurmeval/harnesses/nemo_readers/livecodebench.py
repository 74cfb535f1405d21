"""LiveCodeBench (nvidia-livecodebench 26.3): programs, test outputs and results of programs.

`*_eval_all.json` has one question an entry, with its answers (`output_list`), what was taken from them
(`code_list` or `pred_list`) and which were right (`graded_list`); `*_eval.json` has the scores.

Scenarios: codegeneration (programs, run against tests), testoutputprediction, codeexecution (what a program
returns). The prompts are in no file: a sample's input is the question, without LiveCodeBench's own words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slurmeval.harnesses.base import Job, Metric, Sample, Score
from slurmeval.harnesses.nemo_readers import lead, questions, repeats, within
from slurmeval.harnesses.nemo_readers.reading import json_value, laid_out_by, one_file
from slurmeval.harnesses.sample_checks import each_once


def read(job: Job, output: Path) -> list[Sample]:
    """Returns one sample for each question and repeat.

    Raises:
        EvaluationFailed: A file is not laid out as expected (bad_result).
    """
    path = one_file(output, "*_Scenario.*_eval_all.json", "LiveCodeBench")
    scenario = path.name.rpartition("_Scenario.")[2].partition("_")[0]
    entries = json_value(path)
    with laid_out_by("LiveCodeBench", path):
        samples = [sample for entry in entries for sample in _samples(scenario, entry)]
    within(job, questions(samples), "LiveCodeBench")
    return each_once(samples, path)


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores by the harness's own rules."""
    for row in rows:
        row.higher_is_better = True
        row.n_repeats = repeats(samples)
    lead(rows, "pass@1")
    return rows


def _samples(scenario: str, entry: dict[str, Any]) -> Iterator[Sample]:
    answers = entry["output_list"]
    extracted = entry["code_list"] if "code_list" in entry else entry["pred_list"]
    graded = entry["graded_list"]
    faults = entry.get("metadata") or [None] * len(answers)
    # Of answers that name the input itself, codeexecution has no grade, and does not say which these are.
    paired = len(graded) == len(answers)
    for repeat, (answer, taken) in enumerate(zip(answers, extracted, strict=True)):
        correct = bool(graded[repeat]) if paired else None
        yield Sample(
            native_id=_name(entry),
            task=scenario,
            repeat_idx=repeat,
            category=entry["difficulty"],
            input=_question(entry),
            output=answer,
            reference=entry.get("output"),
            scores=[
                Score(
                    metric="pass@1",
                    value=entry["pass@1"] if correct is None else float(correct),
                    correct=correct,
                    answer=taken,
                    explanation=_fault(faults[repeat]) if paired else "the mean of the graded answers",
                )
            ],
            status="ok" if taken else "unparsed",
            metadata={"contest_date": entry["contest_date"], "platform": entry.get("platform")},
        )


def _name(entry: dict[str, Any]) -> str:
    if "test_id" in entry:
        return f"{entry['question_id']}/{entry['test_id']}"
    return str(entry.get("id", entry["question_id"]))


def _question(entry: dict[str, Any]) -> str:
    parts = [entry.get("question_content"), entry.get("starter_code"), entry.get("code"), entry.get("input")]
    return "\n\n".join(part for part in parts if part)


def _fault(written: str | None) -> str | None:
    """Returns what the tests said: JSON with an error, or with the first test that failed."""
    found = json.loads(written) if written else {}
    if not isinstance(found, dict) or not found.keys() & {"error_message", "error"}:
        return None
    error = ": ".join(str(found[key]) for key in ("error_message", "error") if found.get(key))
    details = [f"{key} {found[key]}" for key in ("inputs", "output", "expected") if key in found]
    return "; ".join([error, *details])
