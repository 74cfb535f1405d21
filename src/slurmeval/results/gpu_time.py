"""Whose a server's busy time was: it is shared equally by those that had requests in flight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import TypeVar

Owner = TypeVar("Owner", bound=Hashable)


def shares(intervals: Iterable[tuple[float, float, Owner]]) -> dict[Owner, float]:
    """The time that belongs to each owner of intervals (begin, end, owner). At each moment those owners share
    equally that have any number of intervals there; the sum is the length of all intervals' union.

    One pass over the sorted ends: `each` is how much an owner would have that was there from the start."""
    events = []
    for begin, end, owner in intervals:
        if end > begin:
            events += [(begin, 1, owner), (end, -1, owner)]
    events.sort(key=lambda event: event[:2])
    found: dict[Owner, float] = {}
    open_intervals: Counter[Owner] = Counter()
    entered: dict[Owner, float] = {}
    each = last = 0.0
    for moment, step, owner in events:
        if entered:
            each += (moment - last) / len(entered)
        last = moment
        if step > 0 and not open_intervals[owner]:
            entered[owner] = each
        open_intervals[owner] += step
        if not open_intervals[owner]:
            found[owner] = found.get(owner, 0.0) + each - entered.pop(owner)
    return found


def divided(amount: float, parts: dict[Owner, float]) -> dict[Owner, float]:
    """`amount` in the proportions of `parts`; nothing where these are all 0."""
    whole = sum(parts.values())
    return {owner: amount * part / whole for owner, part in parts.items()} if whole > 0 else {}


def merged(intervals: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same time in as few intervals as there can be, sorted."""
    found: list[tuple[float, float]] = []
    for begin, end in sorted(intervals):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        elif end > begin:
            found.append((begin, end))
    return found
