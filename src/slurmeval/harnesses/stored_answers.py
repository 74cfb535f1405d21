"""Stored answers of an evaluation, as another evaluation reads them to judge them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.parquet as pq

COLUMNS = (
    *("sample_uid", "repeat_idx", "task", "category", "input", "choices", "reference", "output", "status"),
)


@dataclass(frozen=True)
class StoredAnswer:
    """One answer to one question."""

    sample_uid: str
    repeat_idx: int
    task: str
    category: str | None
    input: str
    choices: list[str] | None
    reference: str | None
    output: str | None
    """Without the model's thoughts; None: nobody answered."""
    status: str


def answers(path: Path) -> Iterator[StoredAnswer]:
    """Yields the answers in a partition of `samples`, in its order."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=list(COLUMNS)):
            for row in batch.to_pylist():
                yield StoredAnswer(**row)


def answers_sha256(path: Path) -> str:
    """Returns a hash of the answers in a partition: the same after it was scored anew."""
    digest = hashlib.sha256()
    for answer in answers(path):
        row = {name: value for name, value in asdict(answer).items() if name != "status"}
        digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()
