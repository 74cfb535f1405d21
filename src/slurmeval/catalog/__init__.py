"""Catalog of every task of NeMo Evaluator's harnesses, and of what each needs.

`nemo.yaml` is generated from NVIDIA's launcher package (`scripts/update-catalog`), `own.yaml` holds what is
known here beyond that. The functions below are about the catalog that comes with slurmeval.
"""

from __future__ import annotations

from collections.abc import Sequence

from slurmeval.catalog import checks
from slurmeval.catalog.entries import Catalog, HarnessEntry, Task, catalog

__all__ = [
    "Catalog",
    "HarnessEntry",
    "Task",
    "candidates",
    "catalog",
    "harnesses",
    "model_problems",
    "problems",
    "tasks",
]


def harnesses() -> dict[str, HarnessEntry]:
    """Returns the harnesses, by name."""
    return catalog().harnesses


def tasks() -> dict[str, Task]:
    """Returns the tasks, by full name (`harness.task`)."""
    return catalog().tasks


def candidates(bare: str) -> list[Task]:
    """Returns the tasks whose name without the harness is `bare`."""
    return catalog().candidates(bare)


def problems(task: str, endpoint: str) -> list[str]:
    """Returns what is wrong with a benchmark's `task` and `endpoint`.

    Each is one line that begins with the key. A benchmark with a task file defines a task that no catalog
    knows, and is not to be asked about.
    """
    return checks.problems(catalog(), task, endpoint)


def model_problems(task: str, endpoint: str, endpoints: Sequence[str], logprobs: bool) -> list[str]:
    """Returns why a model that takes `endpoints`, with log-probabilities or without, cannot run a benchmark.

    Each reason is one line that begins with the model's key. A task that is not in the catalog is judged by
    `endpoint` alone.
    """
    return checks.model_problems(catalog(), task, endpoint, endpoints, logprobs)
