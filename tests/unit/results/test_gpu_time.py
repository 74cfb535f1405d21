"""Sharing a server's time among those that had requests in flight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmeval.results import gpu_time
from slurmeval.results.gpu_time import divided

INTERVALS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 50), st.sampled_from("abc")), max_size=12
).map(lambda some: [(float(min(a, b)), float(max(a, b)), owner) for a, b, owner in some])


def _merged(intervals: list[tuple[float, float, str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    owners = np.array(["abc".index(owner) for _, _, owner in intervals], np.int64)
    begin, end = (np.array([each[side] for each in intervals], np.int64) for side in (0, 1))
    return gpu_time.merged(begin, end, owners)


def shares(intervals: list[tuple[float, float, str]]) -> dict[str, float]:
    found = gpu_time.shares(*_merged(intervals), 3)
    return {owner: share for owner, share in zip("abc", found.tolist(), strict=True) if share}


def by_the_second(intervals: list[tuple[float, float, str]]) -> dict[str, float]:
    """The same, slowly: second by second."""
    found: dict[str, float] = {}
    for second in range(50):
        owners = {owner for begin, end, owner in intervals if begin <= second < end}
        for owner in owners:
            found[owner] = found.get(owner, 0.0) + 1 / len(owners)
    return found


@given(INTERVALS)
def test_each_moment_is_shared_equally(intervals: list[tuple[float, float, str]]) -> None:
    assert shares(intervals) == pytest.approx(by_the_second(intervals), abs=1e-9)


@given(INTERVALS)
def test_parts_sum_to_the_time_that_anyone_was_there(intervals: list[tuple[float, float, str]]) -> None:
    begin, end, _ = _merged([(begin, end, "a") for begin, end, _ in intervals])
    union = float((end - begin).sum())
    assert sum(shares(intervals).values()) == pytest.approx(union, abs=1e-9)


@given(INTERVALS, st.floats(0, 1e6))
def test_a_whole_is_divided_without_rest(intervals: list[tuple[float, float, str]], whole: float) -> None:
    parts = shares(intervals)
    expected = whole if parts else 0.0
    assert sum(divided(whole, parts).values()) == pytest.approx(expected)


def test_many_requests_of_one_count_as_one() -> None:
    assert shares([(0, 10, "a"), (0, 10, "a"), (5, 10, "b")]) == {"a": 7.5, "b": 2.5}


def test_nobody_there() -> None:
    assert shares([]) == {}
    assert divided(5.0, {}) == {}
    assert [len(each) for each in _merged([])] == [0, 0, 0]


def test_short_gaps_are_closed_within_a_group_alone() -> None:
    begin, end, group = (
        np.array(each, np.int64) for each in ([0, 12, 40, 11], [10, 20, 50, 30], [0, 0, 0, 1])
    )
    found = gpu_time.merged(begin, end, group, gap=2)
    assert [each.tolist() for each in found] == [[0, 40, 11], [20, 50, 30], [0, 0, 1]]
