"""The manifest of what is staged: a model, a dataset, or what a benchmark's harness fetches by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from slurmeval.files import sha256_of_json
from slurmeval.state.records import JsonObject


@dataclass(frozen=True)
class StagedFile:
    """One file of a staged folder; `path` is relative to it, `size` in bytes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is staged in a folder."""

    kind: str = ""
    """model, dataset, benchmark."""
    id: str = ""
    source: JsonObject = field(default_factory=dict)
    revision: str | None = None
    folder: Path
    files: list[StagedFile]
    bytes: int = 0
    staged_at: str | None = None
    """ISO UTC."""

    @property
    def sha256(self) -> str:
        """Returns a hash over the names and hashes of all files."""
        return sha256_of_json(sorted((file.path, file.sha256) for file in self.files))
