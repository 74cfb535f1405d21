"""What is known of an evaluation before its results are read: the pins by which it can be repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord:
    """One evaluation that ended well.

    The fields are columns of the table `evaluations` (there in unit and meaning); mappings and lists
    become its `_json` columns. None: not known, or the task's own.
    """

    attempt: int
    started_at: datetime | None
    ended_at: datetime
    harness: str
    task: str
    endpoint: str | None
    log: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    environment_sha256: str | None = None
    task_sha256: str | None = None
    datasets: Sequence[Mapping[str, Any]] = ()
    """Each `{"id", "revision", "sha256"}`."""
    model_source: str | None = None
    model_revision: str | None = None
    model_sha256: str | None = None
    served: Mapping[str, Any] = field(default_factory=dict)
    answers_key: str | None = None
    few_shot: int | None = None
    limit: int | None = None
    n_repeats: int = 1
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    slurmeval_version: str | None = None
    workflow_commit: str | None = None
    workflow_dirty: bool | None = None
    config_sha256: str | None = None
