"""A repository of the Hugging Face hub, as the config names it, and where it lies."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from slurmeval.config.sources import Commit, Dataset, Source

Kind = Literal["model", "dataset"]
HUB_LOCK = "config/hub.lock.yaml"
"""In the project folder: the commits that branches and tags stand for (hub_lock.py)."""
REMEDY = "set staging.hf_home to another place"
"""What a user can do who lacks disk space or permission."""


@dataclass(frozen=True)
class Repository:
    """What the config names; or, once a branch is locked, the commit."""

    kind: Kind
    name: str
    revision: str
    branch: str | None = None
    """The branch or tag that `revision` was locked for."""

    @classmethod
    def of(cls, source: Source) -> Repository | None:
        """Returns the repository of a model's weights or of a dataset; None where it is another source."""
        if source.repo is None:
            return None
        kind: Kind = "dataset" if isinstance(source, Dataset) else "model"
        return cls(kind, source.repo, source.revision or "main")

    def at(self, commit: str) -> Repository:
        """Returns the repository at the commit that its branch stands for."""
        return replace(self, revision=commit, branch=self.revision)

    @property
    def is_commit(self) -> bool:
        """Whether the revision is a commit, and no branch or tag."""
        return Commit.match(self.revision) is not None

    @property
    def folder(self) -> str:
        """Its folder in the hub's cache."""
        return f"{self.kind}s--{self.name.replace('/', '--')}"

    @property
    def page(self) -> str:
        """Where people read about it, and ask for access."""
        return f"{endpoint()}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    def cache(self, hf_home: Path) -> Path:
        """Returns its folder in the hub's cache below `hf_home`."""
        return hf_home / "hub" / self.folder

    def records(self, hf_home: Path) -> Path:
        """Returns the folder with what slurmeval knows of it: the files of each commit, and their hashes."""
        return hf_home / "slurmeval" / "hub" / self.folder

    def snapshot(self, hf_home: Path, commit: str) -> Path:
        """Returns the folder with the files of a commit."""
        return self.cache(hf_home) / "snapshots" / commit


def endpoint() -> str:
    """Returns the URL of the hub, without a slash at its end."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or str(constants.ENDPOINT)).rstrip("/")
