"""Paired differences: published values, other libraries' values, symmetry, verdicts."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]
from scipy.special import bdtr, gammaln, xlogy  # type: ignore[import-untyped]
from statsmodels.stats.contingency_tables import mcnemar  # type: ignore[import-untyped]

from slurmeval.statistics import pairs, power
from slurmeval.statistics.intervals import Interval
from slurmeval.statistics.pairs import Verdict, difference


def pair(both: int, a_only: int, b_only: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, a_only, b_only, neither]
    return np.repeat([1.0, 1.0, 0.0, 0.0], counts), np.repeat([1.0, 0.0, 1.0, 0.0], counts)


def mcnemar_power(n: int, only_a: float, only_b: float) -> float:
    """Returns the power of McNemar's exact two-sided test at 5 % with `n` paired questions.

    `only_a` and `only_b` are the probabilities that only the first or only the second model is right. All
    counts of discordant questions are enumerated.
    """
    discordant = only_a + only_b

    def pmf(successes: np.ndarray, trials: int, p: float) -> np.ndarray:
        logs = gammaln(trials + 1) - gammaln(successes + 1) - gammaln(trials - successes + 1)
        logs += xlogy(successes, p) + xlogy(trials - successes, 1 - p)
        return np.asarray(np.exp(logs))

    counts = np.arange(n + 1)
    weights = pmf(counts, n, discordant)
    power = 0.0
    for count, weight in zip(counts, weights, strict=True):
        if weight < 1e-15 or not count:
            continue
        wins = np.arange(count + 1)
        p_values = np.minimum(1.0, 2 * bdtr(np.minimum(wins, count - wins), count, 0.5))
        power += weight * float(pmf(wins, int(count), only_a / discordant)[p_values <= 0.05].sum())
    return min(1.0, power)


def test_published_value_of_a_paired_difference() -> None:
    found = difference(*pair(45, 15, 5, 35))
    assert (found.value, found.a_only, found.b_only) == (pytest.approx(0.1), 15, 5)
    assert found.p_value == pytest.approx(0.0413895, abs=1e-7)
    assert found.se == pytest.approx(0.0438086, rel=0.01)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((0.0134468, 0.1923965), abs=1e-7)
    assert found.verdict is Verdict.BETTER


@pytest.mark.parametrize(("a_only", "b_only"), [(3, 0), (1, 0), (0, 0), (7, 9), (40, 12)])
def test_mcnemars_test_is_statsmodels(a_only: int, b_only: int) -> None:
    table = [[10, a_only], [b_only, 10]]
    assert pairs.mcnemar(a_only, b_only) == pytest.approx(float(mcnemar(table, exact=True).pvalue))


def test_published_values_of_mcnemars_test() -> None:
    assert pairs.mcnemar(8, 2) == pytest.approx(0.109375)
    assert pairs.mcnemar(15, 5) / 2 == pytest.approx(0.0206947, abs=1e-7)
    found = difference(*pair(0, 8, 2, 5))
    assert found.interval is not None
    assert found.interval.high < 1  # Wald's passes 1


def test_paired_error_is_that_of_both_and_their_correlation() -> None:
    a, b = pair(45, 15, 5, 35)
    paired, apart = np.std(a - b) / 10, np.hypot(np.std(a), np.std(b)) / 10
    assert (paired, apart) == pytest.approx((0.0435890, 0.07), abs=1e-6)
    assert difference(a, b).se == pytest.approx(0.0438086, abs=1e-6)
    unpaired = np.hypot(np.std(a, ddof=1), np.std(b, ddof=1)) / 10
    assert unpaired == pytest.approx(0.0703526, abs=1e-6)
    assert np.corrcoef(a, b)[0, 1] == pytest.approx(0.6124, abs=1e-4)


def test_students_t_on_differences_is_scipys() -> None:
    random = np.random.default_rng(1)
    a, b = random.random(80), random.random(80)
    found, theirs = difference(a, b), stats.ttest_rel(a, b)
    low, high = theirs.confidence_interval(0.95)
    assert found.p_value == pytest.approx(float(theirs.pvalue))
    assert found.interval == Interval(pytest.approx(low), pytest.approx(high), "t")  # type: ignore[arg-type]


def test_sign_flip_test_is_scipys_for_few_questions() -> None:
    random = np.random.default_rng(2)
    a, b = random.random(18), random.random(18)
    theirs = stats.permutation_test(
        (a - b,), np.mean, permutation_type="samples", n_resamples=20_000, rng=random
    )
    found = difference(a, b)
    assert found.test == "sign_flip"
    assert found.p_value == pytest.approx(float(theirs.pvalue), abs=0.02)


values = st.sampled_from([0.0, 0.25, 0.5, 1.0])


@hypothesis.given(st.lists(st.tuples(values, values), min_size=1, max_size=80), st.booleans())
def test_exchanged_models_have_the_opposite_difference(
    scores: list[tuple[float, float]], clustered: bool
) -> None:
    a, b = (np.array(column) for column in zip(*scores, strict=True))
    clusters = np.arange(len(a)) // 3 if clustered else None
    one, other = difference(a, b, clusters), difference(b, a, clusters)
    assert other.value == pytest.approx(-one.value)
    assert other.verdict is one.verdict.reversed
    if one.interval is not None and other.interval is not None:
        opposite = (-other.interval.high, -other.interval.low)
        assert (one.interval.low, one.interval.high) == pytest.approx(opposite, abs=1e-9)
    if one.p_value is not None:
        assert other.p_value == pytest.approx(one.p_value)


@hypothesis.given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=15, max_size=60), st.randoms())
def test_order_of_questions_does_not_matter(scores: list[tuple[bool, bool]], random: object) -> None:
    shuffled = list(scores)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (
        difference(*(np.array(column, float) for column in zip(*each, strict=True)))
        for each in (scores, shuffled)
    )
    assert one.interval == other.interval
    assert (one.p_value, one.verdict) == (other.p_value, other.verdict)


@pytest.mark.parametrize(
    ("low", "high", "margin", "verdict"),
    [
        (0.01, 0.05, 0.0, Verdict.BETTER),
        (-0.05, -0.01, 0.0, Verdict.WORSE),
        (-0.01, 0.02, 0.0, Verdict.CANNOT_TELL),
        (-0.01, 0.02, 0.03, Verdict.EQUIVALENT),
        (0.005, 0.02, 0.03, Verdict.EQUIVALENT),
        (0.005, 0.05, 0.03, Verdict.BETTER),
    ],
)
def test_verdict_is_the_intervals(low: float, high: float, margin: float, verdict: Verdict) -> None:
    assert pairs.judge(Interval(low, high, "t"), margin) is verdict


def test_what_cannot_be_told_says_how_many_questions_would() -> None:
    found = difference(*pair(40, 12, 8, 40))
    assert found.verdict is Verdict.CANNOT_TELL
    assert found.needed is not None
    # So many questions like these do tell, four times of five
    share = np.array([12, 8]) / 100
    assert mcnemar_power(found.needed, *share) == pytest.approx(0.8, abs=0.02)


def test_equal_answers_are_no_difference_and_equivalent_within_a_margin() -> None:
    a, b = pair(60, 0, 0, 140)
    assert difference(a, b).verdict is Verdict.CANNOT_TELL
    assert difference(a, b, margin=0.03).verdict is Verdict.EQUIVALENT
    assert difference(a, b).p_value == 1


def test_too_few_paired_questions_get_no_verdict() -> None:
    found = difference(*pair(4, 8, 0, 2))
    assert (found.interval, found.verdict) == (None, Verdict.CANNOT_TELL)
    assert found.refusal == "14 questions; an interval needs at least 15"


def test_nothing_paired_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected equally many finite scores"):
        difference(np.array([]), np.array([]))


@pytest.mark.parametrize(("a_only", "b_only"), [(0.03, 0.03), (0.1, 0.05), (0.3, 0.2), (0.01, 0.002)])
@pytest.mark.parametrize("n", [15, 60, 500, 2000])
def test_intervals_of_differences_hold_the_truth(n: int, a_only: float, b_only: float) -> None:
    random = np.random.default_rng(n)
    held = 0
    for _ in range(300):
        _, a_right, b_right = random.multinomial(n, [1 - a_only - b_only, a_only, b_only])
        low, high = pairs.tango(n, int(a_right), int(b_right))
        held += low <= a_only - b_only <= high
    assert held / 300 >= 0.91


def test_power_is_millers_and_enumerated() -> None:
    assert power.needed(0.03, 1 / 9) == pytest.approx(968.997, abs=0.01)
    assert power.needed(0.03, 1 / 9, 1 / 6, 1 / 6) == pytest.approx(3875.99, abs=0.01)
    assert power.needed(0.03, 1 / 9, 1 / 6, 1 / 6, 10, 10) == pytest.approx(1259.70, abs=0.01)
    assert power.detectable(float(np.sqrt(0.2 / 1000))) == pytest.approx(0.03962, abs=1e-5)
    for repeats, smallest in ((1, 0.13273), (10, 0.07567)):
        variance = 1 / 9 + 2 / 6 / repeats
        assert power.detectable(float(np.sqrt(variance / 198))) == pytest.approx(smallest, abs=1e-5)
    assert mcnemar_power(500, 0.10, 0.06) == pytest.approx(0.5693058, abs=1e-6)
    assert mcnemar_power(1000, 0.10, 0.06) == pytest.approx(0.8745431, abs=1e-6)


@pytest.mark.parametrize(("a_only", "b_only"), [(15, 5), (3, 0), (0, 3), (0, 0), (40, 52)])
def test_a_limit_at_an_end_of_tangos_interval_has_half_of_five_percent(a_only: int, b_only: int) -> None:
    found = difference(*pair(20, a_only, b_only, 20))
    assert found.interval is not None
    assert pairs.p_below(found, found.interval.high) == pytest.approx(0.025, abs=1e-6)
    assert pairs.p_below(found, found.interval.low) == pytest.approx(0.975, abs=1e-6)


def test_p_value_against_a_limit_is_scipys_one_sided_t() -> None:
    random = np.random.default_rng(2)
    a, b = random.random(60), random.random(60)
    found, theirs = difference(a, b), stats.ttest_1samp(a - b, 0.05, alternative="less")
    assert pairs.p_below(found, 0.05) == pytest.approx(float(theirs.pvalue))
    clusters = np.repeat(np.arange(12), 5)
    clustered = difference(a, b, clusters)
    assert clustered.interval is not None
    assert pairs.p_below(clustered, clustered.interval.high, 12) == pytest.approx(0.025)


def test_without_variance_or_interval_a_limit_is_decided_or_open() -> None:
    same = difference(np.full(40, 0.5), np.full(40, 0.7))
    assert same.interval is not None
    assert same.interval.low < -0.2 < same.interval.high  # all alike is no certainty
    assert same.p_value is not None
    assert 0 < same.p_value < 0.001
    assert pairs.p_below(same, -0.1) < 0.01 < 0.99 < pairs.p_below(same, -0.3)
    perplexity = difference(np.full(40, 5.0), np.full(40, 7.0))
    assert (pairs.p_below(perplexity, -1.0), pairs.p_below(perplexity, -3.0)) == (0, 1)
    assert pairs.p_below(difference(np.ones(5), np.zeros(5)), 2.0) == 1


def test_without_any_difference_seen_no_detectable_one_is_named() -> None:
    assert difference(*pair(20, 0, 0, 20)).detectable is None
    assert difference(*pair(20, 1, 0, 20)).detectable is not None
