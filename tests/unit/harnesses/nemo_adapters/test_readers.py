"""Which wrapped harnesses have a reader, and what every score gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses import Metric, Sample, Score
from slurmeval.harnesses.nemo_readers import lead, questions, reader, repeats, tidy
from slurmeval.harnesses.sample_checks import each_once, well_formed

from ..conftest import MakeJob
from .outputs import checked, read_all


def sample(name: str, value: float | None, repeat: int = 0, category: str | None = None) -> Sample:
    scores = [Score(metric="accuracy", value=value)]
    return Sample(name, "toy", "?", "!", repeat_idx=repeat, category=category, scores=scores)


def row(metric: str = "accuracy", subset: str | None = None, n_items: int | None = None) -> Metric:
    return Metric("toy", metric, 0.5, 0.5, subset=subset, n_items=n_items)


@pytest.mark.parametrize(
    "wrapped",
    ["AA-LCR", "bigcode-evaluation-harness", "helm", "hle", "ifbench", "livecodebench", "mmath", "scicode"],
)
def test_a_reader_is_found_by_the_harness_s_name(wrapped: str) -> None:
    read = reader(wrapped)
    assert read is not None
    assert read.__module__ == f"slurmeval.harnesses.nemo_readers.{wrapped.lower().replace('-', '_')}"


@pytest.mark.parametrize("wrapped", ["codec", "my-own-harness", "../evil", "os.path", "reading", "", "a b"])
def test_harnesses_whose_files_are_not_known_have_none(wrapped: str) -> None:
    assert reader(wrapped) is None
    assert tidy(wrapped, [], []) == []


def test_a_score_counts_the_questions_that_carry_it_once_each() -> None:
    samples = [
        sample("1", 1.0),
        sample("1", 0.0, repeat=1),
        sample("2", None),
        sample("3", 1.0, category="x"),
    ]
    rows = [row(), row(subset="x"), row("other"), row(n_items=7)]
    assert [entry.n_items for entry in tidy("my-own-harness", rows, samples)] == [2, 1, None, 7]
    assert (questions(samples), repeats(samples), repeats([])) == (3, 2, 1)


def test_one_score_leads() -> None:
    rows = [row("a"), row("b"), row("b")]
    lead(rows, "b")
    assert [entry.is_primary for entry in rows] == [False, True, False]
    lead(rows, "a")
    assert [entry.is_primary for entry in rows] == [True, False, False]
    lead(rows, "c")
    assert [entry.is_primary for entry in rows] == [True, False, False]


def test_a_sample_that_is_there_twice_is_a_bad_result(tmp_path: Path) -> None:
    samples = [sample("1", 1.0), sample("1", 1.0, repeat=1), sample("2", 0.0)]
    assert each_once(samples, tmp_path / "answers.jsonl") == samples
    with pytest.raises(EvaluationFailed, match=r"answers\.jsonl: 1, repeat 1, is there twice"):
        each_once([*samples, samples[1]], tmp_path / "answers.jsonl")


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("output", {}),
        ("input", None),
        ("reference", 5),
        ("category", ["x"]),
        ("choices", [1]),
        ("repeat_idx", "0"),
        ("repeat_idx", -1),
        ("repeat_idx", 2**64),
    ],
)  # fmt: skip
def test_a_sample_with_something_else_for_a_text_is_a_bad_result(what: str, value: object) -> None:
    made = sample("1", 1.0)
    setattr(made, what, value)
    with pytest.raises(EvaluationFailed, match=r"toy-harness: .* of 1 is ") as caught:
        well_formed([made], "toy-harness")
    assert caught.value.error_class is ErrorClass.BAD_RESULT


def test_a_samples_score_that_is_no_number_is_none() -> None:
    (made,) = well_formed([sample("1", float("nan"))], "toy-harness")
    assert made.scores[0].value is None


REAL = {
    "aa_lcr": "AA-LCR.aa_lcr", "bfcl_irrelevance": "bfcl.bfclv3_ast_prompting", "helm": "helm.medcalc_bench",
    "bfcl_simple": "bfcl.bfclv3_ast_prompting", "garak": "garak.garak", "hle": "hle.hle",
    "ifbench": "ifbench.ifbench",
    "bigcode_evaluation_harness": "bigcode-evaluation-harness.humaneval", "codec": "codec.gsm8k_test",
    "genai_perf_eval": "genai_perf_eval.generation", "mmath": "mmath.mmath_en", "mtbench": "mtbench.mtbench",
    "livecodebench": "livecodebench.codegeneration_release_v1", "nemo_skills": "nemo_skills.ns_gpqa",
    "profbench": "profbench.report_generation", "profbench_judge": "profbench.llm_judge",
    "mteb": "mteb.nano_fiqa",
    "safety_eval_aegis": "safety_eval.aegis_v2", "safety_eval_compliance": "safety_eval.compliance",
    "safety_eval_wildguard": "safety_eval.wildguard", "simple_evals_gpqa": "simple_evals.gpqa_diamond",
    "simple_evals_humaneval": "simple_evals.humaneval", "simple_evals_mgsm": "simple_evals.mgsm_aa_v2",
    "tau2_bench": "tau2_bench.tau2_bench_airline", "tooltalk": "tooltalk.tooltalk",
    "ruler": "ruler.ruler-4k-chat",
    "vlmevalkit_ai2d": "vlmevalkit.ai2d_judge", "vlmevalkit_chartqa": "vlmevalkit.chartqa",
    "vlmevalkit_mathvista": "vlmevalkit.mathvista-mini",
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_scores_of_real_outputs_lie_on_their_scales_within_their_intervals(
    make_job: MakeJob, name: str
) -> None:
    limit = {"ruler": {"limit": 2}, "profbench": {"limit": 3}}.get(name, {})
    rows, samples = read_all(make_job(f"nemo_{name}", harness="nemo", task=REAL[name], **limit))
    for row in rows:
        found = checked(row, samples)
        if row.harness_scale is None:
            assert (row.value, row.se, found.mismatch, found.ci_lo) == (None,) * 4
        if row.harness_scale and row.harness_value is not None:
            assert 0 <= row.harness_value / row.harness_scale <= 1, row
        if row.value is not None and found.ci_lo is not None and found.ci_hi is not None:
            assert 0 <= found.ci_lo <= row.value <= found.ci_hi <= 1 and found.ci_lo < found.ci_hi
