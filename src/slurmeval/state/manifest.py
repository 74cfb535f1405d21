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


@dataclass(frozen=True)
class Rehearsed:
    """What a benchmark's rehearsal asked of the model that always says the same."""

    questions: int | None
    """Those that the benchmark has in all; None: its harness does not say."""
    asked: int
    """Questions of the rehearsal."""
    requests: int
    """Texts that the model was to answer for them."""
    prompt_tokens: int
    """Of all requests; of those that came as text a quarter of their letters."""
    max_tokens: int | None
    """The longest answer that a request allowed; None: one without a limit."""


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
    rehearsed: Rehearsed | None = None
    """Of a benchmark that was rehearsed."""

    @property
    def sha256(self) -> str:
        """Returns a hash over the names and hashes of all files."""
        return sha256_of_json(sorted((file.path, file.sha256) for file in self.files))
