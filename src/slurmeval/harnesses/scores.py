"""Numbers as harnesses write them, and which of them leads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses.base import Metric


def number(value: Any) -> float | None:
    """A finite number, or None: harnesses also write "N/A", NaN and lists."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond any float
        return None


def proportion(value: float | None, scale: int) -> float | None:
    """`value` on 0..1. None for what is no proportion, such as a perplexity."""
    scaled = None if value is None else value / scale
    return scaled if scaled is not None and 0 <= scaled <= 1 else None


def mark_primary(metrics: Sequence[Metric], task: str) -> None:
    """Marks the one metric that stands for the evaluation: the first of the task itself that has a value,
    or else the first of all."""
    with_value = [metric for metric in metrics if metric.value is not None]
    own = [metric for metric in with_value if metric.task == task]
    for metric in (own or with_value or list(metrics))[:1]:
        metric.is_primary = True


def bad_result(reason: str) -> EvaluationFailed:
    """What a harness wrote cannot be trusted."""
    return EvaluationFailed(ErrorClass.BAD_RESULT, reason)
