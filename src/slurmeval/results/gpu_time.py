"""Whose a server's busy time was: it is shared equally by those that had requests in flight.

Times are whole microseconds in arrays: a run may have ten million requests.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Owner = TypeVar("Owner", bound=Hashable)
Times = NDArray[np.int64]
Groups = NDArray[np.int64]


def merged(begin: Times, end: Times, group: Groups, gap: int = 0) -> tuple[Times, Times, Groups]:
    """Returns the same time in as few intervals as there can be, sorted, for each group by itself.

    Gaps of at most `gap` are closed.
    """
    kept = end > begin
    begin, end, group = begin[kept], end[kept], group[kept]
    if not len(begin):
        return begin, end, group
    # Groups are laid one behind another, so that one pass does for all
    shift = group * (end.max() - begin.min() + gap + 1)
    order = np.argsort(begin + shift, kind="stable")
    begin, end, group, shift = begin[order], end[order], group[order], shift[order]
    reach = np.maximum.accumulate(end + shift)
    opens = np.append(True, begin[1:] + shift[1:] > reach[:-1] + gap)
    first = np.flatnonzero(opens)
    last = np.append(first[1:], len(begin)) - 1
    return begin[first], reach[last] - shift[last], group[first]


def shares(begin: Times, end: Times, owner: Groups, owners: int) -> NDArray[np.float64]:
    """Returns the time that belongs to each of `owners`.

    At each moment those share equally that have an interval there; the sum is the length of all
    intervals' union. The intervals of one owner are `merged`.

    One pass over the sorted ends: `each` is what an owner would have that was there from the start.
    """
    count = len(begin)
    times: Any = np.concatenate([begin, end])
    order = np.argsort(times, kind="stable")
    there = np.cumsum(np.where(order < count, 1, -1))[:-1]
    each = np.zeros(2 * count)
    each[1:] = np.cumsum(np.where(there > 0, np.diff(times[order]) / np.maximum(there, 1), 0.0))
    at = np.empty(2 * count)
    at[order] = each
    found: NDArray[np.float64] = np.bincount(owner, at[count:] - at[:count], minlength=owners).astype(float)
    return found


def divided(amount: float, parts: dict[Owner, float]) -> dict[Owner, float]:
    """`amount` in the proportions of `parts`; nothing where these are all 0."""
    whole = sum(parts.values())
    return {owner: amount * part / whole for owner, part in parts.items()} if whole > 0 else {}
