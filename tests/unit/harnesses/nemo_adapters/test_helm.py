"""HELM for medicine, on output of nvidia-crfm-helm 25.10: three made-up questions in MedCalc-Bench's layout;
a stand-in answered; some scores and the tokens of answers were taken out. Juries and splits:
the same files, edited."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from slurmeval.harnesses import Job

from ..conftest import MakeJob
from .outputs import checked, leading, output_of, read_all, refused

HELM = {"harness": "nemo", "task": "helm.medcalc_bench", "limit": 3}
Edit = Callable[[Job, str, str, str], None]


def test_the_score_of_helm_s_leaderboard_leads_and_agrees_with_its_samples(make_job: MakeJob) -> None:
    rows, samples = read_all(make_job("nemo_helm", **HELM))
    row = leading(rows)
    assert (row.metric, row.n_items) == ("score/medcalc_bench_accuracy", 3)
    assert row.value == row.harness_value == pytest.approx(1 / 3)
    assert checked(row, samples).mismatch is False


def test_scores_that_nothing_was_counted_for_have_no_value(make_job: MakeJob) -> None:
    rows, _ = read_all(make_job("nemo_helm", **HELM))
    found = {row.metric: row for row in rows}
    for name in ("score/training_co2_cost", "score/finish_reason_stop", "score/num_prompt_tokens"):
        assert (found[name].value, found[name].n_items) == (None, None)
    assert found["score/training_co2_cost"].harness_value == 0.0


def test_a_sample_has_question_prompt_answer_and_reference(make_job: MakeJob) -> None:
    _, samples = read_all(make_job("nemo_helm", **HELM))
    sample = samples[0]
    assert sample.input.startswith("Patient note: A man, 80.0 kg")
    assert sample.metadata["prompt"].startswith("Given a patient note and a clinical question")
    assert (sample.native_id, sample.output, sample.reference, sample.task) == (
        "1",
        "25.0",
        "25.0",
        "medcalc_bench",
    )
    leads = {score.metric: score for score in sample.scores}["score/medcalc_bench_accuracy"]
    assert leads.correct is True


def test_marks_of_a_jury_are_brought_to_0_and_1(make_job: MakeJob, edit: Edit) -> None:
    job = make_job("nemo_helm", **{**HELM, "task": "helm.medi_qa"})
    for pattern in ("results.yml", "stats.json", "per_instance_stats.json"):
        for path in output_of(job).rglob(pattern):
            path.write_text(path.read_text().replace("medcalc_bench", "medi_qa"))
    (run,) = output_of(job).glob("runs/*/*")
    stats = json.loads((run / "per_instance_stats.json").read_text())
    for entry, mark in zip(stats, (5.0, 4.0, 3.0), strict=False):
        entry["stats"][0] |= {"sum": mark, "mean": mark}
    (run / "per_instance_stats.json").write_text(json.dumps(stats))
    run.rename(run.with_name("medi_qa:model=local_small"))
    rows, samples = read_all(job)
    row = leading(rows)
    assert (row.metric, row.value, row.n_items) == ("score/medi_qa_accuracy", 0.75, 3)
    assert checked(row, samples).mismatch is False
    assert [sample.scores[0].correct for sample in samples] == [None] * 3


def test_only_the_split_test_is_read(make_job: MakeJob, edit: Edit) -> None:
    job = make_job("nemo_helm", **HELM)
    (path,) = output_of(job).rglob("scenario_state.json")
    state = json.loads(path.read_text())
    state["request_states"][0]["instance"]["split"] = "valid"
    path.write_text(json.dumps(state))
    rows, samples = read_all(job)
    row = leading(rows)
    assert (len(samples), row.value, row.n_items) == (2, 0.0, 2)
    assert row.harness_value == pytest.approx(1 / 3)


def test_unknown_layouts_are_bad_results(make_job: MakeJob, edit: Edit) -> None:
    job = make_job("nemo_helm", **HELM)
    edit(job, "scenario_state.json", '"completions"', '"answers"')
    _, samples = read_all(job)
    assert {(sample.output, sample.status) for sample in samples} == {(None, "error")}
    edit(job, "scenario_state.json", '"references"', '"targets"')
    assert "scenario_state.json: not laid out as HELM does" in refused(job)
    edit(job, "per_instance_stats.json", '"instance_id"', '"id"')
    assert "per_instance_stats.json: not laid out as HELM does" in refused(job)


def test_more_questions_than_the_limit_are_a_bad_result(make_job: MakeJob) -> None:
    assert "where the limit is 2" in refused(make_job("nemo_helm", **{**HELM, "limit": 2}))


@pytest.mark.parametrize(
    ("entry", "stat", "reason"),
    [
        ({"train_trial_index": 1}, {}, "instance 1, trial 1, is in per_instance_stats.json only"),
        ({}, {"count": math.inf}, "sum 1, count inf"),
        ({}, {"sum": "1"}, "sum '1', count 1"),
        ({}, {"sum": True}, "sum True, count 1"),
    ],
)
def test_an_instance_without_its_scores_is_a_bad_result(
    make_job: MakeJob, entry: dict[str, Any], stat: dict[str, Any], reason: str
) -> None:
    job = make_job("nemo_helm", **HELM)
    change_first(job, entry, stat)
    assert reason in refused(job)


def test_a_score_that_is_no_number_is_not_left_out_of_the_mean(make_job: MakeJob) -> None:
    job = make_job("nemo_helm", **HELM)
    change_first(job, {}, {"sum": math.nan})
    row = leading(read_all(job)[0])
    assert (row.metric, row.value) == ("score/medcalc_bench_accuracy", None)


def change_first(job: Job, entry: dict[str, Any], stat: dict[str, Any]) -> None:
    """Changes the first instance's entry, and the first of its scores."""
    (path,) = output_of(job).glob("runs/*/*/per_instance_stats.json")
    entries = json.loads(path.read_text())
    entries[0] |= entry
    entries[0]["stats"][0] |= stat
    path.write_text(json.dumps(entries))
