"""lm-eval's scores: each on its own scale, the one that leads, and what stands for a tag."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses import HarnessOutput, Job, Metric, harness
from slurmeval.harnesses.lm_eval_metrics import all_metrics
from slurmeval.results.statistics import Scores, Spread, spread

from .conftest import MakeJob

LM_EVAL = harness("lm-eval")
Kind = Callable[..., Job]


@pytest.fixture
def kind(make_job: MakeJob) -> Kind:
    """A job that has left one of the kinds, its scores changed: `<task>.<key>` to value."""

    def make(name: str, scores: dict[str, Any] | None = None, **benchmark: Any) -> Job:
        job = make_job(f"lm_eval_kinds/{name}", harness="lm-eval", **{"task": name, **benchmark})
        path = results_of(job)
        content = json.loads(path.read_text())
        for key, value in (scores or {}).items():
            task, _, metric = key.partition(".")
            content["results"][task][metric] = value
        path.write_text(json.dumps(content))
        return job

    return make


def results_of(job: Job) -> Path:
    (path,) = (job.folder / "0001" / "output").rglob("results_*.json")
    return path


def rows_of(output: HarnessOutput) -> dict[str, tuple[Metric, Spread]]:
    """Each score with its statistics."""
    scores = Scores(output.samples)
    return {row.metric: (row, spread(row, scores.of(row))) for row in output.metrics}


def leading(output: HarnessOutput) -> Metric | None:
    return next((row for row in output.metrics if row.is_primary), None)


def refused(job: Job) -> str:
    with pytest.raises(EvaluationFailed) as caught:
        LM_EVAL.read(job)
    assert caught.value.error_class is ErrorClass.BAD_RESULT
    return caught.value.reason


def scores(**of_tasks: dict[str, Any]) -> dict[str, Any]:
    """results_*.json with these scores, 10 questions a task."""
    counts = {task: {"original": 10, "effective": 10} for task in of_tasks}
    return {"results": of_tasks, "n-samples": counts}


def values(results: dict[str, Any]) -> dict[str, float | None]:
    return {row.metric: row.value for row in all_metrics(results)}


def test_each_metric_is_on_its_own_scale(kind: Kind) -> None:
    """TruthfulQA's: BLEU and ROUGE in percent, shares of right answers, and differences."""
    rows = rows_of(LM_EVAL.read(kind("tqa")))
    assert {name: row.value for name, (row, _) in rows.items()} == {
        "bleu_max": 0.225, "bleu_acc": pytest.approx(1 / 3), "bleu_diff": None,
        "rouge1_max": 0.425, "rouge1_acc": 0.5, "rouge1_diff": None,
    }  # fmt: skip
    assert {name: row.harness_scale for name, (row, _) in rows.items() if row.value is not None} == {
        "bleu_max": 100, "bleu_acc": 1, "rouge1_max": 100, "rouge1_acc": 1,
    }  # fmt: skip


def test_a_mean_over_samples_is_on_the_scale_of_the_value(kind: Kind) -> None:
    rows = rows_of(LM_EVAL.read(kind("tqa")))
    of_max, of_acc, of_diff = (rows[f"rouge1_{name}"][1] for name in ("max", "acc", "diff"))
    assert (of_max.recomputed_value, of_max.mismatch) == (pytest.approx(0.425), False)
    assert (of_acc.recomputed_value, of_acc.mismatch) == (0.5, False)
    assert of_diff == Spread()
    assert rows["bleu_max"][1].se == pytest.approx(0.0076376, abs=1e-7)


def test_a_percentage_below_one_is_no_proportion() -> None:
    squad = {"exact,none": 0.8, "f1,none": 0.9, "HasAns_exact,none": 0.5, "NoAns_f1,none": 41.2}
    assert values(scores(sq={**squad, "best_f1,none": 100.0})) == {
        "exact": 0.008, "f1": pytest.approx(0.009), "HasAns_exact": 0.005,
        "NoAns_f1": pytest.approx(0.412), "best_f1": 1.0,
    }  # fmt: skip
    assert values(scores(t={"bleu,none": 0.7, "chrf,none": 0.4, "rougeL_max,none": 0.6})) == {
        "bleu": pytest.approx(0.007), "chrf": pytest.approx(0.004), "rougeL_max": pytest.approx(0.006),
    }  # fmt: skip


def test_f1_beside_other_metrics_is_a_proportion() -> None:
    assert values(scores(coqa={"em,none": 0.4, "f1,none": 0.6})) == {"em": 0.4, "f1": 0.6}
    assert values(scores(french_bench_fquadv2={"exact,none": 0.4, "f1,none": 0.6}))["exact"] == 0.4
    assert values(scores(meqsum={"bleu,none": 0.4}))["bleu"] == 0.4


@pytest.mark.parametrize(
    "metric",
    [
        "bits_per_byte", "word_perplexity", "byte_perplexity", "perplexity", "likelihood_diff", "bleu_diff",
        "rougeL_diff", "brier_score", "mcc", "ter", "wer", "bleurt", "amb_bias_score_Age",
        "difference_male_female", "pearsonr", "something_of_ones_own",
    ],
)  # fmt: skip
@pytest.mark.parametrize("written", [0.05, 0.95, 1.0, 1.05, -0.3, 41.0])
def test_what_is_no_proportion_has_no_value_whatever_its_size(metric: str, written: float) -> None:
    (row,) = all_metrics(scores(t={f"{metric},none": written, f"{metric}_stderr,none": 0.01}))
    assert (row.value, row.harness_value, row.harness_scale, row.se) == (None, written, None, None)


@pytest.mark.parametrize(
    "metric",
    [
        "acc", "acc_norm", "acc_mutual_info", "exact_match", "em", "f1", "rouge1", "rougeLsum", "bleu_acc",
        "prompt_level_strict_acc", "inst_level_loose_acc", "pct_stereotype", "contains", "math_verify", "mrr",
        "accuracy_amb", "per_option_accuracy_A", "level_5_exact_match", "pass@1", "recall", "qa_f1_score",
        "0_macro_accuracy", "options_consistency_rate", "pass_at_k", "numerical_match",
    ],
)  # fmt: skip
def test_shares_are_proportions(metric: str) -> None:
    assert values(scores(t={f"{metric},none": 0.5})) == {metric: 0.5}


def test_a_sum_that_ends_in_noise_is_a_perfect_score() -> None:
    assert values(scores(t={"f1,none": 1.0000000000000002, "acc,none": -1e-17})) == {"f1": 1.0, "acc": 0.0}


@pytest.mark.parametrize("bits", [0.95, 1.05])
def test_which_metric_leads_does_not_depend_on_its_value(kind: Kind, bits: float) -> None:
    output = LM_EVAL.read(kind("roll", {"roll.bits_per_byte,none": bits}))
    row = leading(output)
    assert row is not None and (row.metric, row.value) == ("word_perplexity", None)


@pytest.mark.parametrize(
    ("name", "written", "leads"),
    [
        ("tqa", {"tqa.bleu_acc,none": math.nan}, ("bleu_acc", None)),
        ("roll", {"roll.acc,none": 0.25}, ("acc", 0.25)),
    ],
)
def test_a_proportion_leads_before_a_perplexity_and_a_verdict_before_a_likeness(
    kind: Kind, name: str, written: dict[str, Any], leads: tuple[str, float | None]
) -> None:
    row = leading(LM_EVAL.read(kind(name, written)))
    assert row is not None and (row.metric, row.value) == leads


def test_a_tag_without_total_is_led_by_the_mean_over_its_tasks(kind: Kind) -> None:
    written = {
        "ta.exact_match,none": 0.9, "ta.exact_match_stderr,none": 0.03,
        "tb.exact_match,none": 0.2, "tb.exact_match_stderr,none": 0.04,
    }  # fmt: skip
    output = LM_EVAL.read(kind("mytag", written))
    row = leading(output)
    assert row is not None
    assert (row.task, row.metric, row.harness_value) == ("mytag", "exact_match", None)
    assert (row.mean_of, row.is_group, row.n_items) == (["ta", "tb"], True, 12)
    assert (row.value, row.se) == (pytest.approx(0.55), pytest.approx(0.025))
    assert [(row.task, row.is_primary) for row in output.metrics] == [
        ("mytag", True), ("ta", False), ("tb", False),
    ]  # fmt: skip


def test_a_mean_over_tasks_that_all_failed_has_no_error_and_of_twelve_no_interval(kind: Kind) -> None:
    output = LM_EVAL.read(kind("mytag"))
    (found, *_) = [spread(row, Scores(output.samples).of(row)) for row in output.metrics]
    assert (found.se, found.ci_lo, found.recomputed_value) == (None, None, None)


def test_a_tag_of_tasks_led_by_different_metrics_has_no_score_of_the_whole(kind: Kind) -> None:
    """As TruthfulQA's: what was generated is led by BLEU, choices by accuracy."""
    job = kind("mytag")
    content = json.loads(results_of(job).read_text())
    content["results"]["ta"] = {"bleu_max,none": 20.0, "bleu_acc,none": 0.5}
    results_of(job).write_text(json.dumps(content))
    assert [row.is_primary for row in LM_EVAL.read(job).metrics] == [False] * 3


def test_a_group_with_a_total_leads_and_one_without_is_a_mean(make_job: MakeJob) -> None:
    of_subjects = {"a": {"acc,none": 0.25}, "b": {"acc,none": 0.75, "f1,none": 0.5}}
    counts = {"a": {"original": 3, "effective": 2}, "b": {"original": 9, "effective": 4}}
    below = {"g": ["a", "b"]}
    total = {"acc,none": 0.5, "f1,none": 0.5}
    grouped = {"results": {"g": total, **of_subjects}, "groups": {"g": total}, "n-samples": counts}
    rows = {(row.task, row.metric): row for row in all_metrics({**grouped, "group_subtasks": below})}
    assert (rows["g", "acc"].n_items, rows["g", "f1"].n_items) == (6, 4)
    assert rows["g", "acc"].is_group and rows["g", "acc"].mean_of is None


def test_a_number_that_is_none_is_null_beside_others(kind: Kind) -> None:
    job = kind("tqa", {"tqa.bleu_max,none": math.nan, "tqa.rouge1_acc,none": math.inf})
    rows = rows_of(LM_EVAL.read(job))
    assert len(rows) == 6
    for name in ("bleu_max", "rouge1_acc"):
        assert (rows[name][0].value, rows[name][0].harness_value) == (None, None)
    assert rows["rouge1_acc"][1].recomputed_value == 0.5


@pytest.mark.parametrize(
    ("written", "said"), [(math.nan, "NaN"), (math.inf, "Infinity"), ("N/A", '"N/A"'), (None, "null")]
)
def test_what_stands_there_instead_of_the_only_score_is_said(kind: Kind, written: Any, said: str) -> None:
    job = kind("boolish", {"boolish.prompt_level_strict_acc,none": written})
    where = f"{results_of(job).name}: has no score: prompt_level_strict_acc,none of boolish"
    assert refused(job) == f"{where} is {said}"


@pytest.mark.parametrize("written", [54.17, 1.2, -0.1])
def test_a_score_off_its_scale_is_a_mismatch(kind: Kind, written: float) -> None:
    job = kind("boolish", {"boolish.prompt_level_strict_acc,none": written})
    row, found = rows_of(LM_EVAL.read(job))["prompt_level_strict_acc"]
    assert (row.value, row.harness_value, row.is_primary) == (None, written, True)
    assert (found.mismatch, found.recomputed_value) == (True, 1.0)


def test_all_right_has_no_standard_error(kind: Kind) -> None:
    _, found = rows_of(LM_EVAL.read(kind("boolish")))["prompt_level_strict_acc"]
    assert (found.se, found.recomputed_value) == (None, 1.0)


def test_a_question_that_does_not_count_is_not_in_the_mean(kind: Kind) -> None:
    """NVIDIA's mathematics write -1 for it, and average what is not negative."""
    job = kind("tqa", {"tqa.rouge1_acc,none": 2 / 3})
    (path,) = (job.folder / "0001" / "output").rglob("samples_*")
    lines = [json.loads(line) for line in path.read_text().split("\n") if line]
    for line, score in zip(lines, (-1, -1, -1, 1, 1, 0), strict=True):
        line["rouge1_acc"] = score
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, found = rows_of(LM_EVAL.read(job))["rouge1_acc"]
    assert (found.recomputed_value, found.mismatch) == (pytest.approx(2 / 3), False)


def test_chance_is_one_over_the_number_of_choices(kind: Kind) -> None:
    _, found = rows_of(LM_EVAL.read(kind("wino")))["acc"]
    assert found.chance == 0.5
    letters = all_metrics(scores(mmlu_stem={"exact_match,none": 0.4}, mmlu_pro={"exact_match,none": 0.4}))
    assert [row.chance for row in letters] == [0.25, None]


@pytest.mark.parametrize("count", ["24", 24.0, True, -1, None, 1e300])
def test_counts_are_whole_numbers(kind: Kind, count: Any) -> None:
    job = kind("boolish")
    content = json.loads(results_of(job).read_text())
    content["n-samples"]["boolish"]["effective"] = count
    results_of(job).write_text(json.dumps(content))
    assert "not laid out as lm-eval does: n-samples.boolish.effective" in refused(job)


def test_a_score_that_numpy_made_text_is_read(kind: Kind) -> None:
    job = kind("boolish", {"boolish.prompt_level_strict_acc,none": "1.0"})
    row = leading(LM_EVAL.read(job))
    assert row is not None and (row.value, row.harness_value) == (1.0, 1.0)
