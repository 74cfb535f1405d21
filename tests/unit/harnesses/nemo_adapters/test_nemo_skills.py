"""NeMo Skills, on files after its documented layout: no output of the image was to be had. Samples as `ns
eval` documents them, results.yml as users of the image read it (groups, percentages)."""

from __future__ import annotations

import pytest

from slurmeval.errors import ErrorClass, EvaluationFailed

from ..conftest import MakeJob
from .outputs import checked, leading, output_of, read_all, refused

AIME = {"harness": "nemo", "task": "nemo_skills.ns_aime2024", "limit": 2}


def test_the_average_over_repeats_leads_in_percent(make_job: MakeJob) -> None:
    rows, samples = read_all(make_job("nemo_nemo_skills", **AIME))
    row = leading(rows)
    assert (row.task, row.metric) == ("aime24", "pass@1[avg-of-2]/symbolic_correct")
    assert (row.harness_value, row.value, row.se, row.n_items, row.n_repeats) == (75.0, 0.75, 0.25, 2, 2)
    assert checked(row, samples).mismatch is False


def test_without_repeats_pass_at_1_leads(make_job: MakeJob) -> None:
    job = make_job("nemo_nemo_skills", **AIME)
    folder = output_of(job) / "eval-results/aime24"
    (folder / "output-rs1.jsonl").unlink()
    (folder / "output-rs0.jsonl").rename(folder / "output.jsonl")
    results = output_of(job) / "results.yml"
    results.write_text(results.read_text().replace("pass@1[avg-of-2]", "pass@1").replace("75.0", "50.0"))
    rows, samples = read_all(job)
    row = leading(rows)
    assert (row.metric, row.n_repeats) == ("pass@1/symbolic_correct", 1)
    assert checked(row, samples).mismatch is False


def test_counts_and_times_are_no_proportions_and_fewer_missing_answers_are_better(make_job: MakeJob) -> None:
    rows, _ = read_all(make_job("nemo_nemo_skills", **AIME))
    named = {row.metric: row for row in rows}
    assert named["pass@1[avg-of-2]/avg_tokens"].value is None
    assert named["pass@1[avg-of-2]/gen_seconds"].higher_is_better is None
    assert named["pass@2/no_answer"].higher_is_better is False


def test_samples_have_repeats_and_what_was_extracted(make_job: MakeJob) -> None:
    _, samples = read_all(make_job("nemo_nemo_skills", **AIME))
    assert [(sample.native_id, sample.repeat_idx) for sample in samples] == [
        ("aime24-0", 0),
        ("aime24-1", 0),
        ("aime24-0", 1),
        ("aime24-1", 1),
    ]
    assert [sample.status for sample in samples] == ["ok", "unparsed", "ok", "ok"]
    assert (samples[3].reference, samples[3].scores[0].answer) == ("17", "17")


def test_no_answers_are_a_bad_result(make_job: MakeJob) -> None:
    job = make_job("nemo_nemo_skills", **AIME)
    for path in output_of(job).rglob("output-rs*.jsonl"):
        path.write_text("")
    with pytest.raises(EvaluationFailed, match=r"output-rs0\.jsonl: no question was asked") as caught:
        read_all(job)
    assert caught.value.error_class is ErrorClass.BAD_RESULT


def test_a_line_without_a_question_is_a_bad_result(make_job: MakeJob) -> None:
    job = make_job("nemo_nemo_skills", **AIME)
    path = output_of(job) / "eval-results/aime24/output-rs0.jsonl"
    path.write_text(path.read_text().replace('"problem"', '"riddle"'))
    with pytest.raises(EvaluationFailed, match="not laid out as NeMo Skills does"):
        read_all(job)


@pytest.mark.parametrize("lost", ["output-rs0.jsonl", "output-rs1.jsonl"])
def test_a_lost_repeat_is_a_bad_result(make_job: MakeJob, lost: str) -> None:
    job = make_job("nemo_nemo_skills", **AIME)
    path = output_of(job) / "eval-results/aime24" / lost
    whole = path.read_bytes()
    path.write_bytes(whole.splitlines(keepends=True)[0])
    assert " answers, in another repeat " in refused(job)
    path.unlink()
    assert refused(job).endswith(", and there are answers of 1 repeats")
