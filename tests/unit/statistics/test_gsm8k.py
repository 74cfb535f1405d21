"""Four models' published answers to GSM8K: every pair as statsmodels says, and as other programs would."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar  # type: ignore[import-untyped]
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]

from slurmeval.statistics.families import holm
from slurmeval.statistics.intervals import standard_error
from slurmeval.statistics.pairs import difference
from tests.lacking import lacking

SOLUTIONS = Path(__file__).parents[4] / "shared" / "data" / "gsm8k" / "example_model_solutions.jsonl"
PAGE = Path(__file__).parents[3] / "docs" / "statistics.md"
MODELS = ("175b_verification", "6b_verification", "175b_finetuning", "6b_finetuning")


@pytest.fixture(scope="module")
def right() -> dict[str, np.ndarray]:
    if not SOLUTIONS.exists():
        lacking("GSM8K's example_model_solutions.jsonl is not beside the project")
    rows = [json.loads(line) for line in SOLUTIONS.read_text(encoding="utf-8").strip().split("\n")]
    return {model: np.array([float(row[model]["is_correct"]) for row in rows]) for model in MODELS}


def said(p_value: float) -> str:
    mantissa, exponent = f"{p_value:.1e}".split("e")
    return f"{p_value:.2g}" if p_value >= 0.001 else f"{mantissa}·10^{int(exponent)}"


def unpaired(a: np.ndarray, b: np.ndarray) -> float:
    """lm-eval's scripts/model_comparator.py: z of two independent samples."""
    z = (a.mean() - b.mean()) / np.hypot(standard_error(a) or 0, standard_error(b) or 0)
    return float(2 * norm.sf(abs(z)))


def win_rate(a_only: int, b_only: int) -> float:
    """olmo-eval's analysis/pairwise.py: a Wald test of the win rate among the questions that differ."""
    n, share = a_only + b_only, a_only / (a_only + b_only)
    error = np.sqrt(share * (1 - share) / (n - 1)) if n > 1 else 0.0
    return float(2 * norm.sf(abs(share - 0.5) / error)) if error else 0.0


def test_every_pair_is_as_statsmodels_says_and_the_page_says_what_others_would(
    right: dict[str, np.ndarray],
) -> None:
    page = PAGE.read_text(encoding="utf-8")
    pairs = list(itertools.combinations(MODELS, 2))
    theirs = []
    for a, b in pairs:
        found = difference(right[a], right[b])
        assert found.interval is not None
        assert found.a_only is not None
        assert found.b_only is not None
        assert found.p_value is not None
        assert found.detectable is not None
        table = [[int(((right[a] == x) & (right[b] == y)).sum()) for y in (1, 0)] for x in (1, 0)]
        exact = float(mcnemar(table, exact=True).pvalue)
        theirs.append((found.p_value, exact))
        assert found.p_value == pytest.approx(exact, rel=1e-9)
        nel = exact / 2  # nel compare: one-sided, and its detectable effect as a share of those that differ
        row = [
            f"{a} − {b}",
            f"{found.value:+.3f} [{found.interval.low:+.3f}, {found.interval.high:+.3f}]",
            said(exact),
            said(unpaired(right[a], right[b])),
            said(win_rate(found.a_only, found.b_only)),
            said(nel),
            f"{found.detectable:.3f}",
            f"{2.8 / np.sqrt(found.a_only + found.b_only):.3f}",
        ]
        line = f"| {' | '.join(row)} |"
        assert line in page, f"docs/statistics.md lacks:\n{line}"
    ours, theirs_p = zip(*theirs, strict=True)
    assert holm(ours) == pytest.approx(multipletests(theirs_p, method="holm")[1])


def test_a_pair_is_surer_than_two_samples(
    right: dict[str, np.ndarray],
) -> None:
    """The certainty of a pair is not that of two samples: here ours is as if there were 1.7 times as many."""
    a, b = right["6b_verification"], right["175b_finetuning"]
    paired, apart = standard_error(a - b), np.hypot(standard_error(a) or 0, standard_error(b) or 0)
    assert paired == pytest.approx(0.0144, abs=5e-5)
    assert apart == pytest.approx(0.0188, abs=5e-5)


@pytest.mark.parametrize(("wins", "exact"), [(1, 1.0), (3, 0.25), (10, 0.00195)])
def test_unanimous_wins_are_no_certainty(wins: int, exact: float) -> None:
    a, b = np.repeat([1.0, 0.0], [wins, 50 - wins]), np.zeros(50)
    assert difference(a, b).p_value == pytest.approx(exact, abs=5e-6)
    assert win_rate(wins, 0) == 0
