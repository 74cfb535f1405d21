"""Verdicts as they are stored, of all models that a judge has judged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

_COLUMNS = ("native_id", "repeat_idx", "category", "status", "scores", "metadata_json")


@dataclass(frozen=True)
class StoredVerdict:
    """What a judge said of one answer."""

    model: str
    question: str
    """The sample_uid of the judged answer."""
    repeat_idx: int
    of_repeat: int
    """Which answer to the question was judged."""
    category: str | None
    status: str
    judged: str
    """The answer."""
    against: str | None
    """The answer that it was compared with."""
    values: dict[str, float | None]
    """By dimension, on 0 to 1; None: unscored."""
    grades: dict[str, str | None] = field(default_factory=dict)
    """By dimension, as the judge wrote them."""
    orders: tuple[str | None, str | None] | None = None
    """The verdicts in both orders."""
    votes: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """Of a jury: by dimension and juror."""
    error: str | None = None
    """Why there is no verdict."""

    @property
    def answer(self) -> tuple[str, str, int]:
        """Returns what names the judged answer."""
        return self.model, self.question, self.of_repeat


def stored_verdicts(paths: Iterable[tuple[str, Path]]) -> Iterator[StoredVerdict]:
    """Yields the verdicts in the `samples` of a judge's evaluations, each given with its model."""
    for model, path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=list(_COLUMNS)):
                for row in batch.to_pylist():
                    yield _verdict(model, row)


def _verdict(model: str, row: dict[str, Any]) -> StoredVerdict:
    metadata = json.loads(row["metadata_json"] or "{}")
    first, second = metadata.get("verdicts", (None, None))
    return StoredVerdict(
        model=model,
        question=row["native_id"],
        repeat_idx=row["repeat_idx"],
        of_repeat=metadata["repeat"],
        category=row["category"],
        status=row["status"],
        judged=metadata["judged"] or "",
        against=metadata.get("against"),
        values={score["metric"]: score["value"] for score in row["scores"]},
        grades={score["metric"]: score["answer"] for score in row["scores"]},
        orders=(first, second) if "verdicts" in metadata else None,
        votes=metadata.get("votes", {}),
        error=metadata.get("error"),
    )
