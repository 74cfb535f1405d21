"""ProfBench, on the output of nvidia-profbench 26.3 (made-up tasks; a stand-in answered and judged)."""

from __future__ import annotations

import pytest
import yaml

from slurmeval.errors import ErrorClass, EvaluationFailed

from ..conftest import MakeJob
from .outputs import checked, leading, output_of, read_all

REPORTS = {"harness": "nemo", "task": "profbench.report_generation", "limit": 3}
JUDGE = {"harness": "nemo", "task": "profbench.llm_judge"}


def test_the_mean_over_domains_leads_in_percent(make_job: MakeJob) -> None:
    rows, samples = read_all(make_job("nemo_profbench", **REPORTS))
    row = leading(rows)
    assert (row.metric, row.harness_value, row.harness_scale, row.n_items) == ("Overall", 83.4, 100, 3)
    assert row.value == pytest.approx(0.834)
    assert len(samples) == 3


def test_tokens_and_lengths_are_no_proportions(make_job: MakeJob) -> None:
    rows, _ = read_all(make_job("nemo_profbench", **REPORTS))
    tokens = next(row for row in rows if row.metric == "completion_tokens")
    assert (tokens.harness_value, tokens.value, tokens.higher_is_better) == (3.0, None, None)


def test_a_report_has_the_share_of_its_judged_criteria(make_job: MakeJob) -> None:
    _, samples = read_all(make_job("nemo_profbench", **REPORTS))
    judged = [sample for sample in samples if sample.scores[0].value is not None]
    # As in the run: the limit of 3 held for the reports and for the criteria of all of them together.
    assert sum(len(sample.metadata["criteria"]) for sample in samples) == 3
    assert {sample.category for sample in judged} == {"Physics PhD", "Finance MBA"}
    assert judged[0].input.startswith("Write a short report on the made-up case ")
    assert "judged criteria met, of 3" in str(judged[0].scores[0].explanation)


def test_the_verdicts_of_a_judge_are_compared_with_people(make_job: MakeJob) -> None:
    rows, samples = read_all(make_job("nemo_profbench_judge", **JUDGE))
    row = leading(rows)
    assert (row.task, row.metric, row.harness_scale, row.n_items) == (
        "llm_judge",
        "Overall",
        100,
        len(samples),
    )
    bias = next(row for row in rows if row.metric == "BIAS-INDEX")
    assert bias.value is None and bias.harness_value is not None
    assert {sample.reference for sample in samples} == {"Yes", "No"}
    sample = samples[0]
    assert sample.scores[0].correct == (sample.output == sample.reference)
    assert checked(row, samples).mismatch is None


def test_a_report_that_failed_is_a_bad_result(make_job: MakeJob) -> None:
    job = make_job("nemo_profbench", **REPORTS)
    (path,) = output_of(job).glob("*.jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(EvaluationFailed, match="3 questions were asked for, and 2 were answered") as caught:
        read_all(job)
    assert caught.value.error_class is ErrorClass.BAD_RESULT


def test_a_truncated_line_is_a_bad_result(make_job: MakeJob) -> None:
    job = make_job("nemo_profbench", **REPORTS)
    (path,) = output_of(job).glob("judgements/*.jsonl")
    path.write_text(path.read_text()[:-30])
    with pytest.raises(EvaluationFailed, match=":3: not JSON"):
        read_all(job)


def test_a_criterion_without_a_verdict_is_a_bad_result(make_job: MakeJob) -> None:
    job = make_job("nemo_profbench", **REPORTS)
    (path,) = output_of(job).glob("judgements/*.jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(EvaluationFailed, match="2 of 9 criteria were judged"):
        read_all(job)


def test_of_two_scores_that_both_stand_for_the_whole_none_is_taken(make_job: MakeJob) -> None:
    job = make_job("nemo_profbench_judge", **JUDGE)
    path = output_of(job) / "results.yml"
    written = yaml.safe_load(path.read_text())
    written["results"]["tasks"]["another"] = written["results"]["tasks"].pop("llm_judge")
    path.write_text(yaml.safe_dump(written))
    reason = "results.yml: another Overall and llm_judge Overall both stand for the whole"
    with pytest.raises(EvaluationFailed, match=reason):
        read_all(job)
