"""Many comparisons: corrected p-values are statsmodels', bands and groups follow the verdicts."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]

from slurmeval.statistics.families import groups, holm, rank_bands
from slurmeval.statistics.pairs import Verdict
from slurmeval.statistics.readings import readings

LESS, MORE, SAME = Verdict.WORSE, Verdict.BETTER, Verdict.CANNOT_TELL


@hypothesis.given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_corrected_p_values_are_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_corrected_p_values_are_the_published_ones() -> None:
    """Benjamini and Hochberg's own 25 p-values, and four of another table."""
    small = [0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205, 0.212, 0.216, 0.222, 0.251, 0.269]
    p_values = [*small, 0.275, 0.34, 0.341, 0.384, 0.569, 0.594, 0.696, 0.762, 0.94, 0.942, 0.975, 0.986]
    assert holm(p_values)[:3] == pytest.approx([0.025, 0.192, 0.897])
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_models_that_cannot_be_told_apart_are_in_one_group() -> None:
    verdicts = {("a", "b"): SAME, ("a", "c"): MORE, ("b", "c"): SAME, ("d", "a"): LESS, ("b", "d"): MORE}
    verdicts["c", "d"] = MORE
    assert groups(["a", "b", "c", "d"], verdicts) == [["a", "b"], ["b", "c"], ["d"]]
    assert rank_bands(["a", "b", "c", "d"], verdicts) == {"a": (1, 2), "b": (1, 3), "c": (2, 3), "d": (4, 4)}


@hypothesis.given(st.lists(st.sampled_from([LESS, MORE, SAME]), min_size=10, max_size=10))
def test_groups_hold_each_pair_that_cannot_be_told_apart_and_no_other(found: list[Verdict]) -> None:
    models = ["a", "b", "c", "d", "e"]
    pairs = [(one, other) for index, one in enumerate(models) for other in models[index + 1 :]]
    verdicts = dict(zip(pairs, found, strict=True))
    together = groups(models, verdicts)
    assert {member for group in together for member in group} == set(models)
    for pair, verdict in verdicts.items():
        assert any(set(pair) <= set(group) for group in together) == (verdict is SAME)


def test_readings_bound_a_score() -> None:
    found = readings(np.array([1.0, 0.0, 1.0, 0.0]), np.array([False, False, False, True]))
    assert (found.wrong, found.left_out, found.right) == (0.5, pytest.approx(2 / 3), 0.75)
    assert (found.n_doubtful, found.width) == (1, 0.25)


def test_a_score_of_doubtful_answers_alone_has_bounds_only() -> None:
    found = readings(np.array([0.0, 0.0]), np.array([True, True]))
    assert (found.wrong, found.left_out, found.right) == (0, None, 1)
