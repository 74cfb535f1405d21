"""Results that are not as they should be, through every command: a line, never a traceback."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from slurmeval.cli import main
from slurmeval.results import schema
from slurmeval.results.comparison import compare
from slurmeval.results.leaderboard import leaderboard
from slurmeval.statistics.pairs import Verdict
from tests.unit.results.test_comparison import Results
from tests.unit.results.test_leaderboard import add

HOSTILE = (
    'a,"b"\n<script>alert(1)</script> ü 😀 \x1b[2J \u202e',
    "x" * 10_000,
    "<img src=x onerror=alert(1)>",
)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")


class Said:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def said(results: Results, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Said]:
    """Runs a command on the results; fails on a traceback and on what a terminal would obey."""

    def run(*arguments: str) -> Said:
        capsys.readouterr()
        status = main.run([*arguments, "--results", str(results.folder)])
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err + shown.out
        assert not set(shown.out + shown.err) & {"\x1b", "\u202e", "\x07"}
        if status:  # what it does is said as it goes
            assert len([line for line in shown.err.splitlines() if not line.startswith("fitting")]) <= 1
        return Said(status, shown.out, shown.err)

    return run


def every(said: Callable[..., Said], tmp_path: Path, *pair: str) -> dict[str, Said]:
    """Runs every command that reads results."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("defaults: {max_drop: 0.02}\n")
    shown = {name: said(name) for name in ("show", "runs", "anchors")}
    shown["csv"], shown["json"] = said("show", "--format", "csv"), said("show", "--format", "json")
    shown["samples"] = said("samples", "--model", pair[0])
    shown["lines"] = said("samples", "--model", pair[0], "--format", "jsonl")
    for form in ("csv", "latex"):
        shown[form + " export"] = said("export", "--to", form, "--out", str(tmp_path / form))
    if len(pair) > 1:
        shown["compare"] = said("compare", *pair)
        shown["gate"] = said("gate", str(policy), "--candidate", pair[0], "--baseline", pair[1])
    return shown


def test_a_metric_without_samples_has_its_score_and_is_not_compared(
    results: Results, said: Callable[..., Said], tmp_path: Path
) -> None:
    for model in ("a", "b"):
        add(results, model, "sums", 40, metric={"metric": "elsewhere"})
    shown = every(said, tmp_path, "a", "b")
    assert "samples carry no elsewhere" in shown["compare"].out
    assert shown["gate"].status == 2
    assert "0.400" in shown["show"].out


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers_are_none(
    results: Results, said: Callable[..., Said], tmp_path: Path, value: float
) -> None:
    odd = {"value": value, "harness_value": value, "se": value, "ci_lo": value, "ci_hi": value}
    add(results, "a", "sums", 50, metric=odd)
    results.add("b", "sums", [value] * 100, metric=odd)
    shown = every(said, tmp_path, "a", "b")
    assert shown["show"].out.count("no score") >= 2
    assert "0 questions" in shown["compare"].out or "no question was answered by both" in shown["compare"].out
    assert shown["gate"].status == 2
    json.loads(shown["json"].out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_scores_out_of_bounds_are_not_averaged_and_get_no_bounds(
    results: Results, said: Callable[..., Said], tmp_path: Path
) -> None:
    for model, score in (("a", 1.7), ("b", -3.0)):
        results.add(model, "sums", [score] * 20 + [0.5] * 20, metric={"value": score, "n_items": 40})
        add(results, model, "facts", 50)
    shown = every(said, tmp_path, "a", "b")
    assert "mean of" not in shown["show"].out
    assert leaderboard(results.folder).entries["a", "sums"].readings is None


def test_models_that_answered_other_questions_are_not_compared(
    results: Results, said: Callable[..., Said], tmp_path: Path
) -> None:
    add(results, "a", "sums", 50)
    add(results, "b", "sums", 50, uids=[f"other{number}" for number in range(100)])
    shown = every(said, tmp_path, "a", "b")
    assert "no question was answered by both" in shown["compare"].out
    assert (shown["compare"].status, shown["gate"].status) == (0, 2)


def test_another_schema_s_version_is_one_line_that_says_what_to_do(
    results: Results, said: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(results, "a", "sums", 50)
    add(results, "b", "sums", 50)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
    for name, shown in every(said, tmp_path, "a", "b").items():
        if name != "runs":  # the history has a format of its own
            assert shown.status == 2 if name == "gate" else shown.status != 0  # 1 would be NO-GO
            assert "slurmeval rescore" in shown.err


def test_one_model_alone_has_a_score_and_no_pairs(
    results: Results, said: Callable[..., Said], tmp_path: Path
) -> None:
    add(results, "a", "sums", 50)
    shown = every(said, tmp_path, "a")
    assert "share a letter" not in shown["show"].out
    assert said("compare", "a", "b").status == 2
    assert "anchors need at least 4" in shown["anchors"].out


def test_all_equal_answers_are_no_certainty(
    results: Results, said: Callable[..., Said], tmp_path: Path
) -> None:
    for model in ("a", "b"):
        results.add(model, "half", [0.5] * 60, metric={"value": 0.5, "n_items": 60})
        results.add(model, "passages", [1.0] * 60, category=[f"p{n // 6}" for n in range(60)])
    results.add("c", "half", [0.7] * 60, metric={"value": 0.7, "n_items": 60})
    results.add("c", "passages", [1.0] * 60)
    every(said, tmp_path, "a", "b")
    for found in compare(results.folder, "a", "b", margin=0.01).benchmarks:
        assert found.difference is not None
        assert found.difference.p_value == 1
        assert found.verdict is Verdict.CANNOT_TELL  # so few alike are not proof of less than a point
    (alike, _) = compare(results.folder, "c", "a").benchmarks
    assert alike.difference is not None
    assert alike.difference.p_value is not None
    assert 0 < alike.difference.p_value < 0.001
    assert alike.verdict is Verdict.BETTER


def test_benchmarks_that_share_questions_are_named_and_widen_the_mean(
    results: Results, said: Callable[..., Said], tmp_path: Path
) -> None:
    for model, right in (("a", 50), ("b", 60)):
        for benchmark in ("zero_shot", "five_shot"):
            add(results, model, benchmark, right, task=["gsm8k"] * 100, metric={"task": "gsm8k"})
        add(results, model, "other", right)
    board = leaderboard(results.folder)
    assert board.shared == (("zero_shot", "five_shot", 100),)
    errors = [board.entries["a", benchmark].se or 0 for benchmark in board.averaged]
    together = math.hypot(errors[0] + errors[1], errors[2]) / 3
    assert board.standings["a"].se == pytest.approx(together)
    line = "zero_shot and five_shot share 100 questions: the mean's error adds theirs up"
    shown = every(said, tmp_path, "a", "b")
    assert line in shown["show"].out.splitlines()
    assert line in shown["compare"].out.splitlines()
    apart = Results(tmp_path / "apart")
    for model, right in (("a", 50), ("b", 60)):
        for benchmark in ("zero_shot", "five_shot", "other"):
            add(apart, model, benchmark, right)
    (wide, narrow) = (compare(folder, "a", "b").mean for folder in (results.folder, apart.folder))
    assert wide is not None and narrow is not None
    assert wide[1] is not None and narrow[1] is not None
    assert wide[1].high - wide[1].low > 1.2 * (narrow[1].high - narrow[1].low)


@pytest.mark.parametrize("name", HOSTILE, ids=["terminal", "long", "html"])
def test_hostile_and_long_names_are_shown_harmless(
    results: Results, said: Callable[..., Said], tmp_path: Path, name: str
) -> None:
    names = {"task": [name] * 100, "category": [name] * 100, "cluster": [name] * 100}
    for model in ("a", "b"):
        add(results, model, "sums", 50, metric={"metric": name, "task": name, "subset": name}, **names)
        results.rows["metrics"][-1]["metric"] = name
    failed = {
        "model": "c",
        "benchmark": "sums",
        "status": "failed",
        "reason": name,
        "error_class": "harness_error",
    }
    results.rows["evaluations"].append(failed)
    add(results, "d", "sums", 50)
    for shown in every(said, tmp_path, "a", "b").values():
        assert shown.status in (0, 2)
    assert max(map(len, said("show").out.splitlines())) < 2_000


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>" * 40_000, "\x00\x07\x1b]0;owned\x07\u202e" * 1_000, ""]
)
def test_hostile_and_large_answers_are_shown_harmless(
    results: Results, said: Callable[..., Said], tmp_path: Path, text: str
) -> None:
    columns = {name: [text] * 20 for name in ("input", "output", "reference", "reasoning")}
    for model in ("a", "b"):
        add(results, model, "sums", 10, of=20, **columns)
    shown = every(said, tmp_path, "a", "b")
    assert len(shown["samples"].out) < 200_000
    first = json.loads(shown["lines"].out.splitlines()[0])
    assert first["output"] == text


def test_half_a_run_says_what_is_missing(results: Results, said: Callable[..., Said], tmp_path: Path) -> None:
    add(results, "a", "sums", 50)
    add(results, "b", "sums", 50)
    add(results, "a", "facts", 50)
    results.rows["evaluations"].append({"model": "b", "benchmark": "facts", "status": "missing"})
    add(results, "c", "sums", 70)
    shown = every(said, tmp_path, "a", "b")
    assert "not in all" in shown["show"].out or "missing" in shown["show"].out
    assert "With results of one of them only: facts" in shown["compare"].out
    assert shown["gate"].status == 2
    (results.folder / "samples" / "a" / "sums.parquet").unlink()
    for name, each in every(said, tmp_path, "c", "b").items():
        assert each.status in (0, 2), name


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ("benchmarks: {sums: {max_dropp: 0.1}}", "max_dropp"),
        ("defaults: {max_drop: -1}", "max_drop"),
        ("benchmarks: {sums: {tier: vital}}", "tier"),
        ("defaults: {max_drop: .nan}", "max_drop"),
        ("benchmarks: {sums: {relative_guard_below: 0.5}}", "relative_guard_below"),
        ("- a list", "expected a mapping"),
        ("{", "policy.yaml"),
        ("candidate: nobody", "nobody"),
    ],
)
def test_a_policy_that_will_not_do_is_one_line_and_no_go_ahead(
    results: Results, said: Callable[..., Said], tmp_path: Path, policy: str, reason: str
) -> None:
    add(results, "a", "sums", 50)
    add(results, "b", "sums", 50)
    path = tmp_path / "policy.yaml"
    path.write_text(policy)
    options = [] if policy.startswith("candidate") else ["--candidate", "a"]
    shown = said("gate", str(path), *options, "--baseline", "b")
    assert shown.status == 2
    assert reason in shown.err
    assert not shown.out


def test_a_benchmark_of_the_policy_that_was_not_run_is_no_go_ahead(
    results: Results, said: Callable[..., Said], tmp_path: Path
) -> None:
    add(results, "a", "sums", 50)
    add(results, "b", "sums", 50)
    path = tmp_path / "policy.yaml"
    path.write_text("benchmarks: {aime: {max_drop: 0.5}, sums: {max_drop: 0.5}}\n")
    shown = said("gate", str(path), "--candidate", "a", "--baseline", "b")
    assert shown.status == 2
    assert shown.out.startswith("INCONCLUSIVE")
    assert "aime" in shown.out
