"""IFBench, on output of nvidia-ifbench 26.3 (three of its prompts; a stand-in answered; the download of a
spaCy model at its start was switched off)."""

from __future__ import annotations

from collections.abc import Callable

from slurmeval.harnesses import Job

from ..conftest import MakeJob
from .outputs import checked, leading, output_of, read_all, refused

IFBENCH = {"harness": "nemo", "task": "ifbench.ifbench", "limit": 3}
Edit = Callable[[Job, str, str, str], None]


def test_the_loose_prompt_level_score_leads_and_agrees_with_its_samples(make_job: MakeJob) -> None:
    rows, samples = read_all(make_job("nemo_ifbench", **IFBENCH))
    row = leading(rows)
    assert (row.metric, row.harness_value, row.n_items) == ("loose:prompt-level", 1 / 3, 3)
    assert checked(row, samples).mismatch is False
    assert {row.harness_scale for row in rows} == {1}


def test_scores_of_instructions_are_kept_as_they_are(make_job: MakeJob) -> None:
    rows, _ = read_all(make_job("nemo_ifbench", **IFBENCH))
    values = {row.metric: row.value for row in rows}
    assert (values["strict:instruction-level"], values["loose:format:options"]) == (0.4, 1.0)


def test_a_sample_says_which_instructions_were_followed(make_job: MakeJob) -> None:
    _, samples = read_all(make_job("nemo_ifbench", **IFBENCH))
    first, second, _ = samples
    assert first.input.startswith("What is the female equivalent to chivalry? Include keyword meridian")
    assert [(score.metric, score.correct) for score in first.scores] == [
        ("strict:prompt-level", True),
        ("loose:prompt-level", True),
    ]
    assert second.output == "I know"
    assert second.scores[0].explanation == "format:options: followed; format:newline: not followed"


def test_answers_without_a_score_are_a_bad_result(make_job: MakeJob) -> None:
    job = make_job("nemo_ifbench", **IFBENCH)
    path = output_of(job) / "eval_results_loose.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    assert "answered 3 prompts, and scored 3 strictly, 2 loosely" in refused(job)


def test_scores_of_different_answers_are_a_bad_result(make_job: MakeJob, edit: Edit) -> None:
    job = make_job("nemo_ifbench", **IFBENCH)
    edit(job, "eval_results_loose.jsonl", '"response": "I know"', '"response": "I do"')
    assert "eval_results_loose.jsonl:2: of another answer" in refused(job)


def test_a_missing_or_broken_file_is_a_bad_result(make_job: MakeJob, edit: Edit) -> None:
    job = make_job("nemo_ifbench", **IFBENCH)
    edit(job, "eval_results_strict.jsonl", "follow_all_instructions", "followed")
    assert "not laid out as IFBench does" in refused(job)
    (output_of(job) / "output.jsonl").unlink()
    assert "output.jsonl: was not written" in refused(job)


def test_more_prompts_than_the_limit_are_a_bad_result(make_job: MakeJob) -> None:
    assert "where the limit is 2" in refused(make_job("nemo_ifbench", **{**IFBENCH, "limit": 2}))
