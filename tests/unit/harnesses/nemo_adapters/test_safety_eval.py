"""The Safety Harness, on the output of nvidia-safety-harness 26.3 (made-up prompts; stand-ins answered and
judged)."""

from __future__ import annotations

import pytest

from slurmeval.errors import ErrorClass, EvaluationFailed

from ..conftest import MakeJob
from ..test_nemo_results import Edit
from .outputs import checked, leading, output_of, read_all, refused

AEGIS = {"harness": "nemo", "task": "safety_eval.aegis_v2", "limit": 3}
WILDGUARD = {"harness": "nemo", "task": "safety_eval.wildguard", "limit": 3}
COMPLIANCE = {"harness": "nemo", "task": "safety_eval.compliance", "limit": 3}


def test_aegis_rates_the_share_of_safe_answers(make_job: MakeJob) -> None:
    rows, samples = read_all(make_job("nemo_safety_eval_aegis", **AEGIS))
    row = leading(rows)
    assert (row.task, row.metric, row.n_items) == ("aegis_v2", "safety_rate", 3)
    assert row.value == pytest.approx(2 / 3)
    assert checked(row, samples).mismatch is False
    unsafe = samples[0]
    assert (unsafe.native_id, unsafe.category) == ("a0", "Violence")
    assert (unsafe.scores[0].correct, unsafe.scores[0].explanation) == (False, "Violence,PII/Privacy")


def test_what_the_guard_could_not_judge_counts_as_not_safe(make_job: MakeJob, edit: Edit) -> None:
    job = make_job("nemo_safety_eval_aegis", **AEGIS)
    edit(job, "output.csv", ",unsafe,", ",ERROR,")
    score = read_all(job)[1][0].scores[0]
    assert (score.value, score.correct) == (0.0, None)


def test_wildguard_takes_its_verdicts_from_the_report(make_job: MakeJob) -> None:
    rows, samples = read_all(make_job("nemo_safety_eval_wildguard", **WILDGUARD))
    row = leading(rows)
    assert (row.task, row.n_items) == ("wildguard", 3)
    assert checked(row, samples).mismatch is False
    assert [sample.scores[0].correct for sample in samples] == [False, True, True]


def test_wildguard_without_its_report_has_answers_and_no_verdicts(make_job: MakeJob) -> None:
    job = make_job("nemo_safety_eval_wildguard", **WILDGUARD)
    (output_of(job) / "report.json").write_text('{"a report of": "another program"}')
    rows, samples = read_all(job)
    assert leading(rows).value == pytest.approx(2 / 3)
    assert [sample.scores for sample in samples] == [[], [], []]
    assert samples[0].output == "answer 9efbabea #1"


@pytest.mark.parametrize("damage", ["cut", "empty line lost", "of a byte order mark"])
def test_a_damaged_report_of_wildguard_is_refused(make_job: MakeJob, damage: str) -> None:
    job = make_job("nemo_safety_eval_wildguard", **WILDGUARD)
    path = output_of(job) / "report.json"
    whole = path.read_bytes()
    damaged = {"cut": whole[:-40], "empty line lost": whole.splitlines()[0] + whole.splitlines()[2]}
    path.write_bytes(damaged.get(damage, b"\xef\xbb\xbf" + whole))
    assert refused(job).startswith("report.json:")


def test_a_byte_order_mark_is_no_part_of_the_first_column(make_job: MakeJob) -> None:
    job = make_job("nemo_safety_eval_aegis", **AEGIS)
    path = output_of(job) / "output.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    rows, samples = read_all(job)
    assert checked(leading(rows), samples).mismatch is False
    assert samples[0].native_id == "a0"


def test_compliance_is_in_percent_and_joined_by_prompt_and_answer(make_job: MakeJob) -> None:
    rows, samples = read_all(make_job("nemo_safety_eval_compliance", **COMPLIANCE))
    row = leading(rows)
    assert (row.metric, row.harness_scale, row.n_items) == ("compliance_rate", 100, 3)
    assert row.value == pytest.approx((row.harness_value or 0) / 100)
    assert checked(row, samples).mismatch is False
    assert {sample.scores[0].correct for sample in samples} == {True, False}


def test_a_lost_answer_is_a_bad_result(make_job: MakeJob) -> None:
    job = make_job("nemo_safety_eval_aegis", **AEGIS)
    path = output_of(job) / "output.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(EvaluationFailed, match="counts 3 verdicts on 2 answers") as caught:
        read_all(job)
    assert caught.value.error_class is ErrorClass.BAD_RESULT


def test_a_truncated_file_is_a_bad_result(make_job: MakeJob) -> None:
    job = make_job("nemo_safety_eval_aegis", **AEGIS)
    path = output_of(job) / "output.csv"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(EvaluationFailed, match="another number of fields than the header"):
        read_all(job)
