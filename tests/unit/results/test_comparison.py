"""Two models compared from the tables of a run: pairing, verdicts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from slurmeval.cli.compare import compare as command
from slurmeval.cli.compare import lines
from slurmeval.errors import UserError
from slurmeval.results import schema
from slurmeval.results.comparison import compare
from slurmeval.results.partitions import write_table
from slurmeval.statistics.pairs import Verdict
from tests.lacking import lacking

SOLUTIONS = Path(__file__).parents[4] / "shared" / "data" / "gsm8k" / "example_model_solutions.jsonl"


_OF_ANSWERS = (
    "task",
    "category",
    "cluster",
    "status",
    "finish_reason",
    "input",
    "choices",
    "output",
    "reference",
    "reasoning",
)


class Results:
    """A results folder of which a test says who answered what."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, list[dict[str, Any]]] = {"evaluations": [], "metrics": [], "servers": []}

    def add(self, model: str, benchmark: str, values: list[float | None], **given: Any) -> None:
        """An evaluation that ended well; `uids` and columns of `samples` go by answer, the rest is columns of
        `evaluations`."""
        uids = given.pop("uids", [f"q{number:05d}" for number in range(len(values))])
        told = {"task": [benchmark] * len(values), "status": ["ok"] * len(values)}
        told |= {name: given.pop(name) for name in _OF_ANSWERS if name in given}
        metric = given.pop("metric", {})
        answers = [
            {
                "sample_uid": uid,
                "repeat_idx": 0,
                **{name: column[number] for name, column in told.items()},
                "scores": []
                if value is None
                else [{"metric": "exact_match", "filter": "strict", "value": value}],
            }
            for number, (uid, value) in enumerate(zip(uids, values, strict=True))
        ]
        key = {"model": model, "benchmark": benchmark}
        self.write(self.folder / "samples" / model / f"{benchmark}.parquet", schema.SAMPLES, answers, key)
        self.rows["evaluations"].append({**key, "status": "ok", **given})
        primary = {"metric": "exact_match", "filter": "strict", "is_primary": True, "is_group": False}
        self.rows["metrics"].append({**key, "task": benchmark, **primary, "higher_is_better": True, **metric})
        tables = {"evaluations": schema.ALL_EVALUATIONS, "metrics": schema.METRICS, "servers": schema.SERVERS}
        for name, table in tables.items():
            self.write(self.folder / f"{name}.parquet", table, self.rows[name], {})

    @staticmethod
    def write(path: Path, table: schema.Table, rows: list[dict[str, Any]], key: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = {name: [(key | row).get(name) for row in rows] for name in table.schema.names}
        fields = {field.name: pa.array(columns[field.name], field.type) for field in table.schema}
        write_table(path, table, pa.table(fields))


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")


def test_all_pairs_of_four_models_on_gsm8k_are_as_statsmodels_says(results: Results) -> None:
    from statsmodels.stats.contingency_tables import mcnemar  # type: ignore[import-untyped]

    if not SOLUTIONS.exists():
        lacking("GSM8K's example_model_solutions.jsonl is not beside the project")
    rows = [json.loads(line) for line in SOLUTIONS.read_text(encoding="utf-8").strip().split("\n")]
    models = ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"]
    right = {model: np.array([float(row[model]["is_correct"]) for row in rows]) for model in models}
    for model in models:
        results.add(model, "gsm8k", right[model].tolist())
    for index, a in enumerate(models):
        for b in models[index + 1 :]:
            (found,) = compare(results.folder, a, b).benchmarks
            table = [[int(((right[a] == x) & (right[b] == y)).sum()) for y in (1, 0)] for x in (1, 0)]
            assert found.difference is not None
            assert found.difference.p_value == pytest.approx(float(mcnemar(table, exact=True).pvalue))
            assert found.difference.value == pytest.approx(right[a].mean() - right[b].mean())
            assert found.certificate.paired == 1319
            ahead = right[a].mean() > right[b].mean()
            assert found.verdict is (Verdict.BETTER if ahead else Verdict.WORSE)
            (other,) = compare(results.folder, b, a).benchmarks
            assert other.verdict is found.verdict.reversed


def test_certificate_counts_what_is_not_paired(results: Results) -> None:
    uids = [f"q{number}" for number in range(100)]
    results.add("a", "sums", [1.0] * 98, uids=uids[:98], status=["error", "error", *["ok"] * 96])
    results.add("b", "sums", [0.0] * 97, uids=uids[3:], status=["ok"] * 90 + ["unparsed"] * 7)
    (found,) = compare(results.folder, "a", "b").benchmarks
    certificate = found.certificate
    assert (certificate.paired, certificate.only_a, certificate.only_b) == (95, 3, 2)
    assert (certificate.errored, certificate.unparsed_a, certificate.unparsed_b) == (0, 0, 5)
    assert found.verdict is Verdict.BETTER


def test_several_answers_to_a_question_are_one_pair(results: Results) -> None:
    uids = [f"q{number:02d}" for number in (*range(60), *range(60))]
    results.add("a", "sums", [1.0] * 90 + [0.0] * 30, uids=uids, metric={"n_repeats": 2})
    results.add("b", "sums", [1.0] * 60 + [0.0] * 60, uids=uids, metric={"n_repeats": 2})
    (found,) = compare(results.folder, "a", "b").benchmarks
    assert found.difference is not None
    assert (found.certificate.paired, found.difference.n) == (60, 60)
    assert found.difference.value == 0.25
    # Of 60 differences, of which half are ½
    assert found.difference.se == pytest.approx(0.25 / 59**0.5)


def test_answers_with_errors_are_left_out_of_both_models(results: Results) -> None:
    results.add("a", "sums", [1.0] * 50, status=["error"] * 2 + ["ok"] * 48)
    results.add("b", "sums", [1.0] * 49 + [0.0], status=["ok"] * 47 + ["error"] * 3)
    (found,) = compare(results.folder, "a", "b").benchmarks
    assert (found.certificate.paired, found.certificate.errored) == (45, 5)
    assert (found.mean_a, found.mean_b) == (1, 1)


def test_a_question_without_scores_or_with_one_that_is_no_number_is_not_answered(results: Results) -> None:
    results.add("a", "sums", [None, float("nan"), float("inf"), *[1.0] * 47], status=["error", *["ok"] * 49])
    results.add("b", "sums", [0.0] * 50)
    (found,) = compare(results.folder, "a", "b").benchmarks
    certificate = found.certificate
    assert (certificate.paired, certificate.errored, certificate.only_b) == (47, 3, 0)
    assert found.verdict is Verdict.BETTER


def test_the_project_folder_will_do(results: Results) -> None:
    results.add("a", "sums", [1.0] * 50)
    results.add("b", "sums", [0.0] * 50)
    assert compare(results.folder.parent, "a", "b") == compare(results.folder, "a", "b")


def test_too_few_paired_questions_are_refused_unless_told(results: Results) -> None:
    results.add("a", "sums", [1.0] * 100)
    results.add("b", "sums", [0.0] * 80)
    (found,) = compare(results.folder, "a", "b").benchmarks
    assert (found.difference, found.verdict) == (None, Verdict.CANNOT_TELL)
    assert found.refusal == "80% of the questions are paired; at least 90% must be"
    (told,) = compare(results.folder, "a", "b", min_paired=0.8).benchmarks
    assert told.verdict is Verdict.BETTER


def test_models_that_answered_other_questions_are_not_compared(results: Results) -> None:
    results.add("a", "sums", [1.0] * 20)
    results.add("b", "sums", [0.0] * 20, uids=[f"other{number}" for number in range(20)])
    (found,) = compare(results.folder, "a", "b").benchmarks
    assert found.refusal == "no question was answered by both"


def test_where_less_is_better_the_verdict_is_turned_round(results: Results) -> None:
    less = {"higher_is_better": False}
    results.add("a", "errors", [1.0] * 50, metric=less)
    results.add("b", "errors", [0.0] * 50, metric=less)
    (found,) = compare(results.folder, "a", "b").benchmarks
    assert found.verdict is Verdict.WORSE


def test_categories_widen_the_interval_where_they_go_together(results: Results) -> None:
    values = [float(number // 10 % 2) for number in range(200)]
    category = [f"passage {number // 10}" for number in range(200)]
    for benchmark, parts in (("plain", [None] * 200), ("clustered", category)):
        results.add("a", benchmark, values, category=parts)
        results.add("b", benchmark, [0.0] * 200, category=parts)
    plain, clustered = compare(results.folder, "a", "b").benchmarks
    assert (plain.n_clusters, clustered.n_clusters) == (None, 20)
    assert plain.difference is not None
    assert clustered.difference is not None
    assert plain.difference.interval is not None
    assert clustered.difference.interval is not None
    assert clustered.difference.interval.low < plain.difference.interval.low


def test_few_passages_are_no_sample_to_compare_on(results: Results) -> None:
    passages = [f"passage {number // 25}" for number in range(100)]
    for benchmark, column in (("drop", "cluster"), ("mixed", "category")):
        results.add("a", benchmark, [1.0] * 90 + [0.0] * 10, **{column: passages})
        results.add("b", benchmark, [1.0] * 50 + [0.0] * 50, **{column: passages})
    drop, mixed = compare(results.folder, "a", "b").benchmarks
    assert drop.difference is not None
    assert drop.difference.refusal == "4 clusters of questions; an interval needs at least 5"
    assert (drop.verdict, mixed.verdict) == (Verdict.CANNOT_TELL, Verdict.BETTER)


def test_a_group_s_questions_are_those_of_its_own_tasks(results: Results) -> None:
    tasks = ["stem"] * 40 + ["arts"] * 20
    group = {"is_group": True, "parts": ["stem"]}
    results.add("a", "mmlu", [1.0] * 40 + [0.0] * 20, task=tasks, metric=group)
    results.add("b", "mmlu", [0.0] * 40 + [1.0] * 20, task=tasks, metric=group)
    (found,) = compare(results.folder, "a", "b").benchmarks
    assert (found.certificate.paired, found.mean_a, found.mean_b) == (40, 1, 0)


def test_several_benchmarks_are_corrected_by_holm_and_averaged(results: Results) -> None:
    for benchmark, wins in (("one", 12), ("two", 30)):
        results.add("a", benchmark, [1.0] * wins + [0.0] * (100 - wins))
        results.add("b", benchmark, [0.0] * 94 + [1.0] * 6)
    found = compare(results.folder, "a", "b")
    first, second = found.benchmarks
    assert first.difference is not None
    assert first.p_holm == first.difference.p_value  # the larger of the two
    assert second.difference is not None
    assert second.difference.p_value is not None
    assert second.p_holm == pytest.approx(2 * second.difference.p_value)
    assert found.mean is not None
    assert found.mean[0] == pytest.approx((0.06 + 0.24) / 2)


def test_what_was_not_run_alike_is_said(results: Results) -> None:
    results.add("a", "sums", [1.0] * 50, few_shot=5, temperature=0.0)
    results.add("b", "sums", [0.0] * 50, few_shot=None, temperature=0.0)
    (found,) = compare(results.folder, "a", "b").benchmarks
    assert found.settings == ("few_shot 5 and the default",)


def test_parameters_that_one_server_was_not_sent_are_said(results: Results) -> None:
    own_names = {"temperature": None, "stop": None, "max_tokens": "max_completion_tokens"}
    results.add("a", "sums", [1.0] * 50, served_json=json.dumps({"parameters": own_names}))
    results.add("b", "sums", [0.0] * 50, served_json=json.dumps({"parameters": {"max_tokens": "limit"}}))
    (found,) = compare(results.folder, "a", "b").benchmarks
    assert found.settings == ("stop, temperature and nothing left out of requests",)


@pytest.mark.parametrize(
    ("a", "b", "benchmarks", "message"),
    [
        ("a", "z", [], "unknown model 'z'; with results in .*: a, b, c"),
        ("a", "a", [], "'a' is compared with itself; name two models of a, b, c"),
        ("a", "b", ["summs"], "unknown benchmark 'summs'; with results of a or b: sums"),
        ("a", "c", [], "no benchmark has results of both a and c"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    results: Results, a: str, b: str, benchmarks: list[str], message: str
) -> None:
    results.add("a", "sums", [1.0] * 20)
    results.add("b", "sums", [1.0] * 20)
    results.add("c", "other", [1.0] * 20)
    with pytest.raises(UserError, match=message):
        compare(results.folder, a, b, benchmarks)


def test_command_says_difference_interval_and_verdict(results: Results) -> None:
    results.add("a", "sums", [1.0] * 60 + [0.0] * 40)
    results.add("b", "sums", [1.0] * 45 + [0.0] * 5 + [0.0] * 35 + [1.0] * 5 + [0.0] * 10)
    said = CliRunner().invoke(command, ["a", "b", "--results", str(results.folder)])
    assert said.exit_code == 0, said.output
    row = " ".join(said.output.split("\n")[2].split())
    assert row == "sums exact_match 0.600 0.500 +0.100 +0.013 … +0.192 .041 15 5 100 better"


def test_names_that_a_terminal_would_obey_are_shown_harmless(results: Results) -> None:
    results.add("a", "sums", [1.0] * 20, metric={"metric": "\x1b[2Jexact_match"})
    results.add("b", "sums", [1.0] * 20, metric={"metric": "\x1b[2Jexact_match"})
    for model in ("a", "b"):
        results.add(model, "\x1b[2Jodd", [1.0] * 5)
    results.add("a", "\x1b[2Jalone", [1.0] * 20)
    assert "\x1b" not in "\n".join(lines(compare(results.folder, "a", "b")))


def test_benchmarks_outside_the_mean_are_named_and_not_counted(results: Results) -> None:
    for benchmark in ("sums", "facts", "errors"):
        less = {"higher_is_better": benchmark != "errors"}
        results.add("a", benchmark, [1.0] * 30 + [0.0] * 20, metric=less)
        results.add("b", benchmark, [0.0] * 30 + [1.0] * 20, metric=less)
    said = list(lines(compare(results.folder, "a", "b")))
    mean = next(line for line in said if line.startswith("Mean of"))
    assert mean.startswith("Mean of 2 benchmarks, each weighing the same: ")
    assert said[said.index(mean) + 1] == "Not in the mean: errors"


@pytest.mark.parametrize("option", ["--margin", "--min-paired"])
def test_nan_is_no_margin_and_no_share(results: Results, option: str) -> None:
    results.add("a", "sums", [1.0] * 20)
    said = CliRunner().invoke(command, ["a", "a", option, "nan", "--results", str(results.folder)])
    assert said.exit_code == 2
    assert f"Invalid value for '{option}': nan is not in the range" in said.output
