"""The leaderboard: scores, the mean over benchmarks, groups, doubtful answers, and what is missing."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from slurmeval.errors import SlurmevalError, UserError
from slurmeval.results import schema
from slurmeval.results.doubts import Doubts
from slurmeval.results.leaderboard import Leaderboard, leaderboard
from slurmeval.results.matrix import matrices
from slurmeval.statistics.intervals import wilson
from tests.unit.results.test_comparison import Results


def add(results: Results, model: str, benchmark: str, right: int, of: int = 100, **given: Any) -> None:
    """An evaluation of which the first `right` of `of` answers are right, with the harness's figures."""
    low, high = wilson(right, of)
    metric = {"value": right / of, "n_items": of, "ci_lo": low, "ci_hi": high, "ci_method": "wilson"}
    if 0 < right < of:
        metric["se"] = math.sqrt(right * (of - right) / of / of / (of - 1))
    given["metric"] = metric | given.get("metric", {})
    results.add(model, benchmark, [1.0] * right + [0.0] * (of - right), **given)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")


def test_models_stand_best_first_by_the_mean_of_benchmarks_however_many_questions_they_have(
    results: Results,
) -> None:
    add(results, "a", "large", 300, 1000)
    add(results, "a", "small", 90)
    add(results, "b", "large", 500, 1000)
    add(results, "b", "small", 20)
    found = leaderboard(results.folder)
    assert found.models == ("a", "b")
    assert found.averaged == ("large", "small")
    standing = found.standings["a"]
    assert standing.mean == pytest.approx((0.3 + 0.9) / 2)  # pooled it would be 390 of 1,100
    errors = [found.entries["a", benchmark].se for benchmark in ("large", "small")]
    assert standing.se == pytest.approx(math.hypot(*[error or 0 for error in errors]) / 2)
    assert standing.interval is not None
    assert standing.interval.high - standing.interval.low == pytest.approx(2 * 1.959964 * (standing.se or 0))


def test_answers_that_were_read_to_compare_models_are_not_read_again(results: Results) -> None:
    for model, right in (("a", 60), ("b", 20)):
        add(results, model, "sums", right, status=["unparsed"] * 10 + ["ok"] * 90)
    whole, doubts = leaderboard(results.folder), Doubts(results.folder)
    compared = matrices(results.folder, ["sums"], read=doubts.read)
    shutil.rmtree(results.folder / "samples")
    assert leaderboard(results.folder, compared=compared, doubts=doubts) == whole
    assert leaderboard(results.folder, compared=compared) != whole


def test_several_answers_to_each_question_have_pass_at_k(results: Results) -> None:
    uids = [f"q{number}" for number in (*range(20), *range(20))]
    right = [1.0] * 20 + [1.0] * 5 + [0.0] * 15  # both answers to 5 questions, one to the others
    results.add("a", "sums", right, uids=uids, metric={"value": 25 / 40, "n_items": 20, "n_repeats": 2})
    entry = leaderboard(results.folder).entries["a", "sums"]
    assert (entry.n_answers, entry.pass_at_k, entry.pass_hat_k) == (2, 1.0, 0.25)


def test_models_that_cannot_be_told_apart_share_a_letter(results: Results) -> None:
    for model, right in (("low", 20), ("middle", 60), ("also", 62)):
        add(results, model, "sums", right)
    found = leaderboard(results.folder)
    ranking = found.ranking
    assert ranking is not None
    assert ranking.order == found.models == ("also", "middle", "low")
    assert ranking.groups == (("also", "middle"), ("low",))
    assert [ranking.letters(model) for model in found.models] == ["a", "a", "b"]
    assert ranking.bands == {"also": (1, 2), "middle": (1, 2), "low": (3, 3)}


def test_groups_of_the_mean_come_from_paired_differences(results: Results) -> None:
    for benchmark in ("sums", "facts"):
        add(results, "a", benchmark, 60)
        add(results, "b", benchmark, 45)
    found = leaderboard(results.folder)
    assert found.ranking is not None
    assert found.ranking.groups == (("a",), ("b",))


def test_where_less_is_better_the_least_is_first_and_nothing_is_averaged(results: Results) -> None:
    less = {"higher_is_better": False}
    for benchmark in ("errors", "slips"):
        add(results, "good", benchmark, 10, metric=less)
        add(results, "bad", benchmark, 80, metric=less)
    found = leaderboard(results.folder)
    assert found.rankings["errors"].order == ("good", "bad")
    assert found.rankings["errors"].groups == (("good",), ("bad",))
    assert (found.averaged, dict(found.standings), found.ranking) == ((), {}, None)


def test_doubtful_answers_bound_the_score_and_wide_bounds_are_told(results: Results) -> None:
    status = ["ok"] * 50 + ["unparsed"] * 50
    add(results, "chatty", "sums", 50, status=status)
    add(results, "plain", "sums", 50, status=["ok"] * 99 + ["unparsed"])
    found = leaderboard(results.folder).entries
    chatty, plain = found["chatty", "sums"], found["plain", "sums"]
    assert chatty.readings is not None
    assert (chatty.n_unparsed, chatty.readings.wrong, chatty.readings.right) == (50, 0.5, 1)
    assert chatty.readings.left_out == 1
    assert chatty.depends_on_reading and not plain.depends_on_reading


def test_cut_and_unanswered_answers_are_doubtful_too(results: Results) -> None:
    finish = ["length"] * 3 + ["stop"] * 97
    add(results, "a", "sums", 50, finish_reason=finish, status=["ok"] * 98 + ["error"] * 2)
    entry = leaderboard(results.folder).entries["a", "sums"]
    assert (entry.n_cut, entry.n_unanswered, entry.n_unparsed) == (3, 2, 0)
    assert entry.readings is not None
    assert (entry.readings.wrong, entry.readings.right) == (pytest.approx(0.47), pytest.approx(0.52))


def test_bounds_of_a_mean_over_tasks_weigh_each_task_the_same(results: Results) -> None:
    tasks = ["large"] * 80 + ["small"] * 20
    given = {"mean_of": ["large", "small"], "is_group": True, "value": 0.5 * (40 / 80 + 0)}
    values = [1.0] * 40 + [0.0] * 60
    results.add("a", "both", values, task=tasks, status=["ok"] * 90 + ["unparsed"] * 10, metric=given)
    found = leaderboard(results.folder).entries["a", "both"].readings
    assert found is not None
    assert (found.n_doubtful, found.wrong, found.right) == (10, 0.25, 0.5)


def test_a_score_that_is_not_the_samples_mean_has_no_bounds(results: Results) -> None:
    add(results, "a", "sums", 50, metric={"value": 0.7}, status=["unparsed"] * 100)
    assert leaderboard(results.folder).entries["a", "sums"].readings is None


def test_one_model_alone_has_scores_and_a_group_of_its_own(results: Results) -> None:
    add(results, "only", "sums", 50)
    found = leaderboard(results.folder)
    assert found.ranking is not None
    assert (found.ranking.groups, found.ranking.bands) == ((("only",),), {"only": (1, 1)})


def test_all_equal_answers_have_a_mean_with_an_error(results: Results) -> None:
    for benchmark in ("sums", "facts"):
        add(results, "a", benchmark, 100)
        add(results, "b", benchmark, 100)
    found = leaderboard(results.folder)
    assert found.standings["a"].mean == 1
    assert found.standings["a"].interval is not None
    assert found.standings["a"].interval.low < 1
    assert found.ranking is not None
    assert found.ranking.groups == (("a", "b"),)


def test_models_that_answered_other_questions_are_not_told_apart(results: Results) -> None:
    add(results, "a", "sums", 90)
    add(results, "b", "sums", 10, uids=[f"other{number}" for number in range(100)])
    found = leaderboard(results.folder)
    assert found.rankings["sums"].groups == (("a", "b"),)


def test_half_a_run_has_no_mean_where_a_benchmark_is_missing(results: Results) -> None:
    add(results, "a", "sums", 50)
    add(results, "a", "facts", 50)
    add(results, "b", "sums", 60)
    results.rows["evaluations"].append(
        {"model": "b", "benchmark": "facts", "status": "failed", "reason": "no memory"}
    )
    results.write(
        results.folder / "evaluations.parquet", schema.ALL_EVALUATIONS, results.rows["evaluations"], {}
    )
    found = leaderboard(results.folder)
    assert found.models == ("a", "b")
    assert found.standings["b"].mean is None
    entry = found.entries["b", "facts"]
    assert (entry.status, entry.reason, entry.value) == ("failed", "no memory", None)


def test_scores_that_are_no_numbers_or_off_their_scale_are_not_averaged(results: Results) -> None:
    for benchmark, value in (("nan", math.nan), ("high", 1.5), ("sums", 0.5)):
        for model in ("a", "b"):
            add(results, model, benchmark, 50, metric={"value": value})
    found = leaderboard(results.folder)
    assert (found.averaged, found.entries["a", "nan"].value) == (("sums",), None)


def test_a_perplexity_is_ranked_as_the_harness_wrote_it(results: Results) -> None:
    for model, value in (("a", 12.5), ("b", 9.5)):
        given = {"value": None, "harness_value": value, "higher_is_better": False, "ci_lo": None}
        add(results, model, "text", 50, metric=given)
    found = leaderboard(results.folder)
    assert found.rankings["text"].order == ("b", "a")
    assert found.entries["a", "text"].harness_value == 12.5


def test_deleted_samples_leave_the_score(results: Results) -> None:
    add(results, "a", "sums", 50)
    add(results, "b", "sums", 90)
    (results.folder / "samples" / "a" / "sums.parquet").unlink()
    found: Leaderboard = leaderboard(results.folder)
    assert (found.entries["a", "sums"].value, found.entries["a", "sums"].readings) == (0.5, None)
    assert found.rankings["sums"].groups == (("b", "a"),)


def test_only_the_named_benchmarks_are_shown(results: Results) -> None:
    add(results, "a", "sums", 50)
    add(results, "a", "facts", 50)
    found = leaderboard(results.folder, ["facts"])
    assert (found.benchmarks, set(found.entries)) == (("facts",), {("a", "facts")})
    with pytest.raises(UserError, match=r"unknown benchmark 'fact'; .* has: sums, facts"):
        leaderboard(results.folder, ["fact"])


def test_tables_of_another_version_are_one_line(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    add(results, "a", "sums", 50)
    (results.folder / "metrics.parquet").write_bytes((results.folder / "evaluations.parquet").read_bytes())
    with pytest.raises(SlurmevalError, match=r"metrics\.parquet"):
        leaderboard(results.folder)
