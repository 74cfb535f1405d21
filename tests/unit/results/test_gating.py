"""A gate: what passes, what is a breach, what is open, and what decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.policy import GatePolicy
from slurmeval.errors import UserError
from slurmeval.results import schema
from slurmeval.results.gate_checks import Finding
from slurmeval.results.gating import Decision, Gate, gate
from tests.unit.results.test_comparison import Results


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")


def answers(both: int, old_only: int, new_only: int, neither: int) -> tuple[list[float | None], ...]:
    """The answers of `old` and of `new`."""
    counts = [both, old_only, new_only, neither]
    return tuple(
        [right for right, count in zip(given, counts, strict=True) for _ in range(count)]
        for given in ((1.0, 1.0, 0.0, 0.0), (1.0, 0.0, 1.0, 0.0))
    )


def add(results: Results, benchmark: str, counts: tuple[int, int, int, int], **metric: Any) -> None:
    for model, values in zip(("old", "new"), answers(*counts), strict=True):
        mean = sum(value or 0.0 for value in values) / len(values)
        results.add(model, benchmark, values, metric={"value": mean, **metric})


def decided(results: Results, policy: dict[str, Any] | None = None, **given: Any) -> Gate:
    return gate(results.folder, GatePolicy(**(policy or {})), "new", ["old"], **given)


def test_a_drop_that_is_surely_within_its_limit_is_go(results: Results) -> None:
    # Of so many discordant pairs nel says "inconclusive": its detectable effect is off by a factor of 8
    add(results, "sums", (2000, 300, 300, 2400))
    found = decided(results, {"defaults": {"max_drop": 0.02}})
    assert (found.decision, [check.finding for check in found.checks]) == (Decision.GO, [Finding.PASS])
    assert found.reasons == ("the only check passed",)


def test_a_drop_that_is_surely_beyond_is_no_go_with_benchmark_drop_and_certainty(results: Results) -> None:
    add(results, "sums", (400, 150, 50, 400))
    add(results, "facts", (500, 10, 10, 480))
    found = decided(results, {"benchmarks": {"sums": {"tier": "critical", "max_drop": 0.03}}})
    assert found.decision is Decision.NO_GO
    (reason,) = found.reasons
    assert reason.startswith("sums [critical] against old: drop +0.100 (0.550 → 0.450; 95 % interval +0.0")
    assert reason.endswith("allowed 0.03: surely more (p < .001, Holm over 2 checks)")


def test_a_drop_that_may_be_within_or_beyond_is_inconclusive_and_says_how_many_would_tell(
    results: Results,
) -> None:
    add(results, "sums", (45, 6, 4, 45))
    found = decided(results)
    assert found.decision is Decision.INCONCLUSIVE
    (check,) = found.checks
    assert (check.finding, check.n) == (Finding.INSUFFICIENT_EVIDENCE, 100)
    assert check.needed is not None and check.needed > 100
    assert f"cannot tell; n ≈ {check.needed:,} would" in found.reasons[0]


def test_more_checks_need_more_evidence_for_a_breach(results: Results) -> None:
    add(results, "first", (400, 52, 22, 400))
    alone = decided(results, {"defaults": {"max_drop": 0.01}})
    assert alone.decision is Decision.NO_GO
    for number in range(9):
        add(results, f"other{number}", (400, 20, 22, 400))
    among = decided(results, {"defaults": {"max_drop": 0.01}})
    assert among.decision is Decision.INCONCLUSIVE
    assert among.checks[0].p_holm == pytest.approx(10 * (alone.checks[0].p_value or 0))


def test_advisory_benchmarks_are_shown_and_do_not_decide(results: Results) -> None:
    add(results, "sums", (400, 150, 50, 400))
    add(results, "facts", (500, 5, 10, 485))
    found = decided(results, {"benchmarks": {"sums": {"tier": "advisory"}}})
    assert [check.finding for check in found.checks] == [Finding.BREACH, Finding.PASS]
    assert found.decision is Decision.GO


def test_nothing_gated_is_no_go(results: Results) -> None:
    add(results, "sums", (500, 5, 10, 485))
    found = decided(results, {"defaults": {"tier": "advisory"}})
    assert (found.decision, found.reasons) == (
        Decision.INCONCLUSIVE,
        ("nothing is gated: no benchmark is critical or supporting",),
    )


def test_a_benchmark_that_was_not_run_is_inconclusive(results: Results) -> None:
    add(results, "sums", (500, 5, 10, 485))
    found = decided(results, {"benchmarks": {"facts": {}}})
    assert found.decision is Decision.INCONCLUSIVE
    said = "facts [supporting] against old: not run, or not ended well: no result of new or old"
    assert found.reasons == (said,)
    assert decided(results, {"benchmarks": {"facts": {"tier": "advisory"}}}).decision is Decision.GO


def test_half_a_run_is_inconclusive_even_where_the_policy_names_nothing(results: Results) -> None:
    add(results, "sums", (500, 5, 10, 485))
    add(results, "facts", (500, 5, 10, 485))
    rows = results.rows["evaluations"]
    rows[-1]["status"] = "failed"
    results.write(results.folder / "evaluations.parquet", schema.ALL_EVALUATIONS, rows, {})
    found = decided(results)
    assert [check.finding for check in found.checks] == [Finding.PASS, Finding.MISSING]
    assert found.decision is Decision.INCONCLUSIVE


@pytest.mark.parametrize(
    ("guard", "limits"), [(None, ["max_drop", "max_relative_drop"]), (0.05, ["max_drop"])]
)
def test_a_relative_limit_holds_below_its_guard(
    results: Results, guard: float | None, limits: list[str]
) -> None:
    add(results, "sums", (40, 60, 5, 895))  # 10 % to 4.5 %
    policy = {"max_drop": 0.2, "max_relative_drop": 0.2, "relative_guard_below": guard}
    found = decided(results, {"benchmarks": {"sums": policy}})
    assert [check.limit for check in found.checks] == limits
    assert found.checks[0].finding is Finding.PASS
    if guard is None:
        relative = found.checks[1]
        assert relative.drop == pytest.approx(0.55)
        assert relative.finding is Finding.BREACH
        assert "drop +0.550 of the baseline's score (0.100 → 0.045" in found.reasons[0]


@pytest.mark.parametrize(("counts", "finding"), [((5, 5, 90, 400), "BREACH"), ((5, 90, 5, 400), "PASS")])
def test_where_less_is_better_a_rise_is_a_drop(
    results: Results, counts: tuple[int, int, int, int], finding: str
) -> None:
    add(results, "errors", counts, higher_is_better=False)
    found = decided(results, {"benchmarks": {"errors": {"max_relative_drop": 0.1}}})
    assert [check.finding for check in found.checks] == [finding, finding]
    drop = 0.17 if finding == "BREACH" else -0.17
    assert found.checks[0].drop == pytest.approx(drop)
    old = found.checks[0].baseline_score
    assert old is not None
    assert found.checks[1].drop == pytest.approx(drop / old)


def test_the_policy_says_which_way_is_better_where_the_results_do_not(results: Results) -> None:
    add(results, "sums", (5, 5, 90, 400), higher_is_better=None)
    told = {"benchmarks": {"sums": {"direction": "lower_is_better"}}}
    assert decided(results, told).decision is Decision.NO_GO
    assert decided(results).decision is Decision.GO


def test_nothing_paired_all_equal_and_few_questions_are_no_evidence_of_a_drop(results: Results) -> None:
    for model, uids in (("old", "q"), ("new", "other")):
        results.add(model, "others", [1.0] * 50, uids=[f"{uids}{number}" for number in range(50)])
    add(results, "few", (5, 5, 0, 0))
    add(results, "equal", (1000, 0, 0, 0))
    add(results, "nan", (20, 0, 0, 0), value=float("nan"))
    found = {check.benchmark: check for check in decided(results).checks}
    assert found["others"].reason == "no question was answered by both"
    assert found["few"].reason == "10 questions; an interval needs at least 15"
    assert found["equal"].finding is Finding.PASS
    assert found["nan"].finding is Finding.INSUFFICIENT_EVIDENCE


def test_every_baseline_counts(results: Results) -> None:
    add(results, "sums", (500, 5, 10, 485))
    results.add("best", "sums", [1.0] * 1000)
    found = gate(results.folder, GatePolicy(baselines=["old", "best"], candidate="new"))
    assert [check.finding for check in found.checks] == [Finding.PASS, Finding.BREACH]
    assert found.decision is Decision.NO_GO


def test_neMo_s_names_of_a_score_mean_the_primary_metric_and_others_have_to_be_there(
    results: Results,
) -> None:
    add(results, "sums", (500, 5, 10, 485))
    assert decided(results, {"defaults": {"metric": "mean_reward"}}).checks[0].metric == "exact_match"
    with pytest.raises(UserError, match="sums on new: no metric 'f1'; it has: exact_match"):
        decided(results, {"benchmarks": {"sums": {"metric": "f1"}}})


def test_a_score_of_one_part_stands_for_a_benchmark_of_which_only_that_part_ran(results: Results) -> None:
    add(results, "calls", (500, 5, 10, 485), subset="simple")
    (check,) = decided(results).checks
    assert (check.metric, check.finding) == ("exact_match", Finding.PASS)


@pytest.mark.parametrize("less", [True, False])
def test_a_benchmark_without_a_score_of_the_whole_leaves_the_others_their_checks(
    results: Results, less: bool
) -> None:
    add(results, "parts", (500, 5, 10, 485), is_primary=False, higher_is_better=not less)
    add(results, "sums", (500, 5, 10, 485))
    for policy in ({}, {"defaults": {"metric": "mean_reward"}}):
        found = decided(results, policy)
        assert [check.finding for check in found.checks] == [Finding.INSUFFICIENT_EVIDENCE, Finding.PASS]
        assert found.reasons == ("parts [supporting] against old: no metric stands for the whole benchmark",)


def test_a_reason_that_holds_for_two_limits_is_said_once(results: Results) -> None:
    add(results, "few", (5, 5, 0, 0))
    found = decided(results, {"defaults": {"max_relative_drop": 0.1}})
    assert (len(found.checks), len(found.reasons)) == (2, 1)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"max_drop": 1.5}, r"sums on new: max_drop 1.5 is beyond the scale of 0 to 1 \(0.01 is one point\)"),
        (
            {"direction": "lower_is_better"},
            "the policy says lower_is_better; exact_match is higher_is_better",
        ),
    ],
)
def test_limits_that_contradict_the_results_are_one_line(
    results: Results, policy: dict[str, Any], message: str
) -> None:
    add(results, "sums", (500, 5, 10, 485))
    with pytest.raises(UserError, match=message):
        decided(results, {"benchmarks": {"sums": policy}})


@pytest.mark.parametrize(
    ("candidate", "baselines", "message"),
    [
        (None, ["old"], "no candidate: name it with --candidate, or as candidate in the policy"),
        ("new", [], "no baseline: name one with --baseline, or as baselines in the policy"),
        ("new", ["olde"], "unknown model 'olde'; the results have: old, new"),
        ("new", ["new"], "'new' is held against itself; name another baseline"),
    ],
)
def test_models_that_cannot_be_judged_are_one_line(
    results: Results, candidate: str | None, baselines: list[str], message: str
) -> None:
    add(results, "sums", (500, 5, 10, 485))
    with pytest.raises(UserError, match=message):
        gate(results.folder, GatePolicy(), candidate, baselines)


def test_what_was_not_run_alike_or_not_read_is_said(results: Results) -> None:
    results.add("old", "sums", [1.0] * 60, few_shot=5)
    results.add("new", "sums", [1.0] * 60, status=["ok"] * 57 + ["unparsed"] * 3, few_shot=0)
    (check,) = decided(results).checks
    assert check.remarks == ("could not be read: 3 of the answers", "not run alike: few_shot 0 and 5")
