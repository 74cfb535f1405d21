"""lm-eval's samples, kind by kind: real outputs, and damaged ones."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses import HarnessOutput, Job, harness
from slurmeval.harnesses.base import Sample

from .conftest import MakeJob

LM_EVAL = harness("lm-eval")


@pytest.fixture
def job_of(make_job: MakeJob) -> Callable[..., Job]:
    """A job that has left one of the kinds."""

    def make(kind: str, task: str | None = None, **more: Any) -> Job:
        return make_job(f"lm_eval_kinds/{kind}", harness="lm-eval", task=task or kind, **more)

    return make


JobOf = Callable[..., Job]


def read(job: Job) -> tuple[HarnessOutput, list[Sample]]:
    output = LM_EVAL.read(job)
    return output, list(output.samples)


def refused(job: Job) -> str:
    with pytest.raises(EvaluationFailed) as caught:
        read(job)
    assert caught.value.error_class is ErrorClass.BAD_RESULT
    return caught.value.reason


def file_of(job: Job, pattern: str) -> Path:
    (path,) = (job.folder / "0001" / "output").rglob(pattern)
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))


@pytest.mark.parametrize(("kind", "task", "questions"), [("u2028", "u2028", 3), ("srv_u2028_tx", "tx", 6)])
def test_u2028_in_a_question_or_an_answer_does_not_split_the_line(
    job_of: JobOf, kind: str, task: str, questions: int
) -> None:
    output, samples = read(job_of(kind, task))
    assert len(samples) == len(output.samples) == questions
    texts = "".join(sample.input + (sample.output or "") for sample in samples)
    assert "\u2028" in texts or "\u0085" in texts


def test_booleans_are_scores(job_of: JobOf) -> None:
    _, samples = read(job_of("boolish"))
    assert [(s.scores[0].metric, s.scores[0].value, s.scores[0].correct) for s in samples] == [
        ("prompt_level_strict_acc", 1.0, True)
    ] * 6


def test_a_false_boolean_is_wrong_and_a_list_is_no_score(job_of: JobOf) -> None:
    job = job_of("boolish")
    path = file_of(job, "samples_*")
    lines = lines_of(path)
    lines[0]["prompt_level_strict_acc"] = False
    lines[1]["prompt_level_strict_acc"] = [True, False]
    lines[2] |= {"metrics": ["follows"], "follows": True}
    write_lines(path, lines)
    scores = [sample.scores[0] for sample in read(job)[1]]
    assert [(score.value, score.correct) for score in scores[:3]] == [(0.0, False), (None, None), (1.0, True)]
    assert scores[2].metric == "follows"


def test_what_numpy_made_text_is_a_score(job_of: JobOf) -> None:
    """lm-eval writes numpy's booleans and float32 by `str`."""
    job = job_of("boolish")
    path = file_of(job, "samples_*")
    lines = lines_of(path)
    metric = "prompt_level_strict_acc"
    for line, raw in zip(lines, ("True", "False", "1.0", "0.25", "nan", "1e-05"), strict=True):
        line[metric] = raw
    write_lines(path, lines)
    scores = [sample.scores[0] for sample in read(job)[1]]
    assert [score.value for score in scores] == [1.0, 0.0, 1.0, 0.25, None, 1e-05]
    assert [score.correct for score in scores] == [True, False, True, None, None, None]


@pytest.mark.parametrize(
    ("metric", "correct"), [("bleu_acc", True), ("rouge1_acc", True), ("bleu_diff", None)]
)
def test_right_and_wrong_go_by_the_metrics_name(job_of: JobOf, metric: str, correct: bool | None) -> None:
    job = job_of("tqa")
    path = file_of(job, "samples_*")
    lines = lines_of(path)
    lines[0][metric] = 1
    write_lines(path, lines)
    (score,) = (score for score in read(job)[1][0].scores if score.metric == metric)
    assert (score.value, score.correct) == (1.0, correct)


def test_contexts_are_the_choices_where_only_they_differ(job_of: JobOf) -> None:
    _, samples = read(job_of("wino"))
    before = "Ann asked Mary what time the library closes, because"
    sample = samples[1]
    assert sample.choices == [f"{before} Ann", f"{before} Mary"]
    assert (sample.output, sample.reference) == (f"{before} Mary", f"{before} Ann")
    assert sample.input == f"{before} _ had forgotten."
    assert sample.scores[0].correct is False and sample.scores[0].answer == sample.output
    assert list(sample.prompts) == [f"{before} Ann had forgotten.", f"{before} Mary had forgotten."]
    assert all((sample.output == sample.reference) is sample.scores[0].correct for sample in samples)
    assert {sample.scores[0].correct for sample in samples} == {True, False}


def test_what_was_only_measured_has_no_answer_but_its_likelihood(job_of: JobOf) -> None:
    _, samples = read(job_of("roll"))
    likelihood, words, size = -0.2604923103919594, 7, 34
    assert (samples[0].output, samples[0].status) == (None, "ok")
    assert samples[0].metadata["loglikelihoods"] == [likelihood]
    assert {score.metric: score.value for score in samples[0].scores} == {
        "word_perplexity": math.exp(-likelihood / words),
        "byte_perplexity": math.exp(-likelihood / size),
        "bits_per_byte": -likelihood / size / math.log(2),
    }


@pytest.mark.parametrize(("greedy", "output"), [("True", "lamp"), ("False", None)])
def test_a_last_word_was_answered_if_the_model_would_have_written_it(
    job_of: JobOf, greedy: str, output: str | None
) -> None:
    job = job_of("roll")
    path = file_of(job, "samples_*")
    lines = lines_of(path)
    for line in lines:
        line["arguments"] = {"gen_args_0": {"arg_0": "He lit the", "arg_1": " lamp"}}
        line["resps"] = [[["-1.25", greedy]]]
        line |= {"metrics": ["acc", "perplexity"], "acc": int(greedy == "True"), "perplexity": -1.25}
    write_lines(path, lines)
    results = file_of(job, "results_*")
    results.write_text(results.read_text().replace("loglikelihood_rolling", "loglikelihood"))
    sample = read(job)[1][0]
    assert (sample.output, list(sample.prompts)) == (output, ["He lit the lamp"])
    assert sample.metadata["loglikelihoods"] == [-1.25]
    assert [score.value for score in sample.scores] == [float(greedy == "True"), math.exp(1.25)]


def two_filters(job: Job) -> tuple[Path, list[dict[str, Any]], list[dict[str, Any]]]:
    """Lines of a second filter behind those of the first, in the other order."""
    path = file_of(job, "samples_*")
    first = lines_of(path)
    second = [line | {"filter": "strict", "exact_match": 0.0} for line in reversed(first)]
    return path, first, second


def test_scores_of_all_filters_stand_in_one_sample_in_whatever_order_they_are(job_of: JobOf) -> None:
    job = job_of("srv_null_tx", "tx")
    path, first, second = two_filters(job)
    write_lines(path, first + second)
    output, samples = read(job)
    assert [sample.native_id for sample in samples] == ["0", "1", "2", "3", "4", "5"]
    assert [(score.filter, score.value) for score in samples[0].scores] == [("number", 1.0), ("strict", 0.0)]
    assert list(output.samples)[4:] == samples[4:]
    mixed = [line for pair in zip(first, reversed(second), strict=True) for line in pair]
    write_lines(path, mixed)
    assert read(job)[1] == samples
    shuffled = [first[place] for place in (3, 0, 5, 1, 4, 2)]
    write_lines(path, shuffled + second)
    samples = read(job)[1]
    assert [sample.native_id for sample in samples] == ["3", "0", "5", "1", "4", "2"]
    assert all(sample.scores[0].answer == sample.scores[1].answer for sample in samples)


def test_a_filter_without_some_questions_is_a_bad_result(job_of: JobOf) -> None:
    job = job_of("srv_null_tx", "tx")
    path, first, second = two_filters(job)
    write_lines(path, first + second[:4])
    assert "of the filter number there are lines of 6 questions, of strict of 4" in refused(job)
    write_lines(path, [line | {"filter": "strict"} for line in first])
    assert "has no line of the filter number" in refused(job)


@pytest.mark.parametrize("extra", [slice(2, 3), slice(None)], ids=["a line", "the file"])
def test_a_second_line_of_a_question_is_a_bad_result(job_of: JobOf, extra: slice) -> None:
    job = job_of("srv_null_tx", "tx")
    path = file_of(job, "samples_*")
    lines = lines_of(path)
    write_lines(path, lines + lines[extra])
    question = extra.start or 0
    assert refused(job) == f"{path.name}:7: a second line of question {question}, filter number"
    write_lines(path, lines[:5] + lines[:1])  # their number is right
    assert "a second line of question 0" in refused(job)


def test_a_task_without_its_questions_is_a_bad_result(job_of: JobOf) -> None:
    job = job_of("mytag")
    path = file_of(job, "samples_tb_*")
    write_lines(path, lines_of(path)[1:])
    assert refused(job).startswith("results_")
    assert "tb: 6 questions were asked for, lm-eval counts 6, and there are samples of 5" in refused(job)
    path.unlink()
    assert "there are samples of 0" in refused(job)


@pytest.mark.parametrize(
    "damage",
    [
        {"doc_id": None},
        {"doc_id": [1]},
        {"doc_id": "1"},
        {"doc_id": 2**64},
        {"arguments": None},
        {"arguments": {}},
        {"arguments": {"gen_args_1": {"arg_0": "x"}}},
        {"resps": None},
        {"resps": "lol"},
        {"filter": 3},
        {"filter": "\ud83d"},
        {"metrics": 5},
    ],
    ids=repr,
)
def test_a_malformed_line_is_named(job_of: JobOf, damage: dict[str, Any]) -> None:
    job = job_of("srv_null_tx", "tx")
    path = file_of(job, "samples_*")
    lines = lines_of(path)
    lines[3] |= damage
    write_lines(path, lines)
    reason = refused(job)
    assert reason.startswith(f"{path.name}:4: not laid out as lm-eval does: ")


@pytest.mark.parametrize("lost", ["doc", "doc_id", "resps", "arguments"])
def test_a_line_without_what_lm_eval_writes_is_named(job_of: JobOf, lost: str) -> None:
    job = job_of("srv_null_tx", "tx")
    path = file_of(job, "samples_*")
    lines = lines_of(path)
    del lines[5][lost]
    write_lines(path, lines)
    assert refused(job) == f"{path.name}:6: not laid out as lm-eval does: KeyError('{lost}')"


@pytest.mark.parametrize("answers", [[[["-1", "False"]]], [["x"], ["y"]], [[], []]], ids=repr)
def test_choices_without_their_likelihoods_are_malformed(job_of: JobOf, answers: list[Any]) -> None:
    job = job_of("wino")
    path = file_of(job, "samples_*")
    lines = lines_of(path)
    lines[0]["resps"] = answers
    write_lines(path, lines)
    assert refused(job).startswith(f"{path.name}:1: not laid out as lm-eval does: ")


def test_what_only_reading_a_sample_shows_names_its_line_too(job_of: JobOf) -> None:
    job = job_of("wino")
    path = file_of(job, "samples_*")
    lines = lines_of(path)
    lines[2]["resps"] = [[["x", "False"]], [["-1", "False"]]]
    write_lines(path, lines)
    with pytest.raises(EvaluationFailed) as caught:
        list(LM_EVAL.read(job).samples)
    assert caught.value.reason.startswith(f"{path.name}:3: not laid out as lm-eval does: ValueError")
    assert caught.value.error_class is ErrorClass.BAD_RESULT


@pytest.mark.parametrize(
    ("part", "value", "where"),
    [
        ("results", {"tx": 0.5}, "results.tx"),
        ("configs", {"tx": None}, "configs.tx"),
        ("configs", {"tx": {"repeats": "N/A"}}, "configs.tx.repeats"),
        ("higher_is_better", {"tx": None}, "higher_is_better.tx"),
        ("higher_is_better", {"tx": {"exact_match": "yes"}}, "higher_is_better.tx.exact_match"),
        ("n-samples", {"tx": {"original": 6}}, "n-samples.tx.effective"),
        ("n-samples", {"tx": 6}, "n-samples.tx"),
        ("groups", ["tx"], "groups"),
        ("group_subtasks", {"a": ["b"], "b": ["a"]}, "group_subtasks"),
        ("results", {"tx": {"exact_match,\ud83d": 1.0}}, "'tx': a name is no text"),
    ],
)
def test_malformed_results_are_named(job_of: JobOf, part: str, value: Any, where: str) -> None:
    job = job_of("srv_null_tx", "tx")
    path = file_of(job, "results_*")
    path.write_text(json.dumps(json.loads(path.read_text()) | {part: value}))
    assert refused(job).startswith(f"{path.name}: not laid out as lm-eval does: {where}")


def test_results_that_are_no_file_or_no_json_are_named(job_of: JobOf) -> None:
    job = job_of("srv_null_tx", "tx")
    path = file_of(job, "results_*")
    path.write_text("[" * 100_000)
    assert refused(job) == f"{path.name}: not JSON: nested too deeply"
    path.unlink()
    path.mkdir()
    assert refused(job) == f"{path.name}: cannot be read: Is a directory"


def test_samples_are_not_held_in_memory(job_of: JobOf) -> None:
    job = job_of("srv_null_tx", "tx")
    path = file_of(job, "samples_*")
    line, n = lines_of(path)[0], 500
    line["doc"]["filler"] = "x" * 100_000
    write_lines(path, [line | {"doc_id": index} for index in range(n)])
    results = file_of(job, "results_*")
    results.write_text(results.read_text().replace('"original": 6', f'"original": {n}'))
    results.write_text(results.read_text().replace('"effective": 6', f'"effective": {n}'))
    tracemalloc.start()
    assert sum(len(sample.metadata["doc"]["filler"]) for sample in LM_EVAL.read(job).samples) == 50_000_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_whole_number_beyond_all_floats_is_no_score(job_of: JobOf) -> None:
    job = job_of("srv_null_tx", "tx")
    samples = file_of(job, "samples_*")
    lines = lines_of(samples)
    lines[0]["exact_match"] = 10**400
    write_lines(samples, lines)
    assert [sample.scores[0].value for sample in read(job)[1][:2]] == [None, 1.0]
    path = file_of(job, "results_*")
    content = json.loads(path.read_text())
    content["results"]["tx"]["exact_match,number"] = 10**400
    path.write_text(json.dumps(content))
    assert "has no score" in refused(job)


def test_a_directory_in_place_of_samples_is_named(job_of: JobOf) -> None:
    job = job_of("srv_null_tx", "tx")
    path = file_of(job, "samples_*")
    path.unlink()
    path.mkdir()
    assert refused(job) == f"{path.name}: cannot be read: Is a directory"


@pytest.mark.parametrize(
    ("doc", "cluster", "category"),
    [
        ({"passage": "A text.", "question": "q"}, True, None),
        ({"context": {"a": ["b"]}, "subject": "physics"}, True, "physics"),
        ({"passage": "", "category": "x" * 101}, False, None),
        ("no object", False, None),
    ],
)
def test_questions_about_one_passage_share_a_cluster_and_subjects_are_categories(
    job_of: JobOf, doc: object, cluster: bool, category: str | None
) -> None:
    job = job_of("boolish")
    path = file_of(job, "samples_*")
    lines = lines_of(path)
    for line in lines:
        line["doc"] = doc
    write_lines(path, lines)
    _, samples = read(job)
    assert {sample.category for sample in samples} == {category}
    (found,) = {sample.cluster for sample in samples}
    assert (found is not None) is cluster
    assert found is None or len(found) == 16


def test_lines_are_found_whatever_blanks_and_order_their_keys_have(job_of: JobOf) -> None:
    job = job_of("srv_null_tx", "tx")
    path, first, second = two_filters(job)
    expected = [{"doc": {"filter": 'a "filter": "b"'}} | line for line in first + second]
    write_lines(path, expected)
    samples = read(job)[1]
    compact = (json.dumps(line, separators=(",", ":")).encode() for line in expected)
    path.write_bytes(b"\n\n".join(compact))
    assert read(job)[1] == samples
    backwards = [dict(reversed(line.items())) for line in expected]
    write_lines(path, backwards)
    assert read(job)[1] == samples


def test_a_filter_is_not_taken_from_another_place(job_of: JobOf) -> None:
    job = job_of("srv_null_tx", "tx")
    path = file_of(job, "samples_*")
    lines = lines_of(path)
    lines[1]["exact_match"] = {"filter": "strict"}
    write_lines(path, lines)
    assert "lines of 5 questions" in refused(job)
    write_lines(path, [line | {"exact_match": {"filter": "number"}, "filter": "other"} for line in lines])
    assert f"{path.name}:1: not laid out as lm-eval does" in refused(job)
