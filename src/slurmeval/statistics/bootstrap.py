"""Bootstrap of sums over units: what slurmeval's statistics without a formula for their error are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurmeval.statistics.intervals import LEVEL, Interval

if TYPE_CHECKING:
    import numpy as np

    from slurmeval.statistics.intervals import Floats

RESAMPLES = 2_000
AT_ONCE = 100
"""Resamples whose draws are in memory together: of 100,000 units 80 MB."""


def resampled(parts: np.ndarray) -> np.ndarray:
    """Returns the sums over resamples of units, shape (resamples, …). The same data give the same sums.

    `parts`: what each unit adds, shape (units, …).
    """
    import numpy as np

    count, random = len(parts), np.random.default_rng(0)
    flat = parts.reshape(count, -1)
    sums = [
        random.multinomial(count, [1 / count] * count, AT_ONCE) @ flat for _ in range(RESAMPLES // AT_ONCE)
    ]
    return np.concatenate(sums).reshape(RESAMPLES, *parts.shape[1:])


def percentiles(found: Floats) -> Interval | None:
    """Returns the middle 95 % of what resamples gave; None: fewer than half gave a number."""
    import numpy as np

    told = found[np.isfinite(found)]
    if 2 * len(told) < len(found) or not len(told):
        return None
    low, high = np.quantile(told, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), "bootstrap")
