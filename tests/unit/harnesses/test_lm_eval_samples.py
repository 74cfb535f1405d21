"""lm-eval's samples, kind by kind: real outputs, and damaged ones."""

from __future__ import annotations

import pytest

from slurmeval.harnesses import HarnessOutput, harness

from .conftest import MakeJob

LM_EVAL = harness("lm-eval")


def output_of(
    make_job: MakeJob, kind: str, task: str | None = None, limit: int | None = None
) -> HarnessOutput:
    job = make_job(f"lm_eval_kinds/{kind}", harness="lm-eval", task=task or kind, limit=limit)
    return LM_EVAL.read(job)


@pytest.mark.parametrize(("kind", "task", "questions"), [("u2028", "u2028", 3), ("srv_u2028_tx", "tx", 6)])
def test_u2028_in_a_question_or_an_answer_does_not_split_the_line(
    make_job: MakeJob, kind: str, task: str, questions: int
) -> None:
    samples = list(output_of(make_job, kind, task).samples)
    assert len(samples) == questions
    texts = "".join(sample.input + (sample.output or "") for sample in samples)
    assert "\u2028" in texts or "\u0085" in texts
