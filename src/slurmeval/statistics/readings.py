"""What a score would be if answers that could not be read, were cut off or failed had counted otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from slurmeval.statistics.intervals import Floats


@dataclass(frozen=True)
class Readings:
    """A score under three readings of the doubtful answers."""

    n_doubtful: int
    wrong: float
    """All doubtful answers counted as wrong."""
    left_out: float | None
    """The mean of the others; None: all are doubtful."""
    right: float
    """All doubtful answers counted as right."""

    @property
    def width(self) -> float:
        """How far the score moves with the reading."""
        return self.right - self.wrong


def readings(values: Floats, doubtful: np.ndarray) -> Readings:
    """Returns the bounds of a score between 0 and 1.

    Args:
        values: Score of each answer, shape (n,); those of doubtful answers are not looked at.
        doubtful: Whether an answer is unparsed, cut off or failed, shape (n,).
    """
    n, count = len(values), int(doubtful.sum())
    if not n or len(doubtful) != n:
        raise ValueError("expected a flag for each score, and at least one score")
    sure = values[~doubtful]
    total = float(sure.sum())
    left_out = total / len(sure) if len(sure) else None
    return Readings(count, total / n, left_out, (total + count) / n)
