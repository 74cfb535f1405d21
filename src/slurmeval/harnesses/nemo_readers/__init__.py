"""Readers of the files of harnesses that NeMo wraps: one module for each harness, named as it is.

A module has any of

    read(job, output) -> list[Sample]      the samples, in the harness's order
    metrics(rows, samples) -> list[Metric] the scores of results.yml after the harness's own rules: which one
                                           leads, their scales, what a higher value means

Both raise EvaluationFailed (bad_result) where a file is missing or not laid out as the harness does. For a
harness without a module only the scores of results.yml are known.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from slurmeval.harnesses.base import Job, Metric, Sample
from slurmeval.harnesses.scores import bad_result

Read = Callable[[Job, Path], list[Sample]]


def reader(wrapped: str) -> Read | None:
    """Returns the function that reads the samples of a wrapped harness; None: there is none."""
    return getattr(_module(wrapped), "read", None)


def knows(wrapped: str) -> bool:
    """Returns whether there is a module of the wrapped harness."""
    return _module(wrapped) is not None


def tidy(wrapped: str, rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores of results.yml after the harness's own rules.

    The number of questions is added where neither NeMo nor these rules say it.
    """
    rules = getattr(_module(wrapped), "metrics", None)
    if rules is not None:
        rows = rules(rows, samples)
    for row in rows:
        if row.n_items is None and not row.is_group:
            row.n_items = questions(_of(row, samples)) or None
        if row.n_items == 0:
            row.value = row.se = None  # of no question there is no score, whatever stands there
    return rows


def questions(samples: Iterable[Sample]) -> int:
    """Returns how many questions there are, repeats counted once."""
    return len({(sample.task, sample.native_id) for sample in samples})


def within(job: Job, asked: int, harness: str) -> None:
    """Checks that something was asked, and no more than the limit allows. Fewer may be all that there is.

    Raises:
        EvaluationFailed: Nothing was asked, or more, so the files are of another run (bad_result).
    """
    limit = job.benchmark.limit
    if not asked:
        raise bad_result(f"{harness}: no question was asked")
    if limit is not None and asked > limit:
        raise bad_result(f"{harness}: {asked} questions were asked, where the limit is {limit}")


def repeats(samples: Iterable[Sample]) -> int:
    """Returns how often each question was asked."""
    return 1 + max((sample.repeat_idx for sample in samples), default=0)


def lead(rows: Sequence[Metric], name: str) -> None:
    """Marks the first score of that name as the one that stands for the evaluation, and no other."""
    first = next((row for row in rows if row.metric == name), None)
    if first is not None:
        for row in rows:
            row.is_primary = row is first


def _module(wrapped: str) -> ModuleType | None:
    name = re.sub(r"[-.]", "_", wrapped).lower()
    if not name.isidentifier() or find_spec(f"{__name__}.{name}") is None:
        return None
    return importlib.import_module(f"{__name__}.{name}")


def _of(row: Metric, samples: Iterable[Sample]) -> list[Sample]:
    """Returns the samples that a score is the mean over: those that carry it."""
    return [
        sample
        for sample in samples
        if sample.task == row.task
        and row.subset in (None, sample.category)
        and any(
            score.metric == row.metric and score.filter == row.filter and score.value is not None
            for score in sample.scores
        )
    ]
