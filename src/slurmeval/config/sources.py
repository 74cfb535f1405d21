"""What config sections share: their base class, the types of their values, and where files come from."""

from __future__ import annotations

import os
import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, model_validator

Identifier = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$", max_length=100),
]
Requirement = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+!_-]+$")]


def _stays_below(path: str) -> str:
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise ValueError("a relative path without '..' is needed")
    return path


Location = Annotated[str, AfterValidator(os.path.expanduser)]
"""A file or folder of this machine; `~` is the home folder."""
RelativeFile = Annotated[str, AfterValidator(_stays_below)]
_NAME = "[A-Za-z0-9][A-Za-z0-9._-]*"
Repository = Annotated[str, StringConstraints(pattern=rf"^{_NAME}(/{_NAME})?$")]
SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")]
Commit = re.compile(r"^[0-9a-f]{40}$")
Scalar = str | int | float | bool


class Section(BaseModel):
    """A mapping of the config."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Source(Section):
    """Where weights or data come from: exactly one of `repo`, `package` and `folder`."""

    repo: Repository | None = None
    """A repository on the Hugging Face hub, staged into HF_HOME."""
    revision: str | None = None
    """The repository's commit: 40 hex digits (a branch or tag only with `staging.pinned: false`)."""
    package: Requirement | None = None
    """A package of the Python package index that carries the files, as `name==version`."""
    folder: Location | None = None
    """A folder that is already there; relative to the project folder, or absolute."""

    @model_validator(mode="after")
    def _one_source(self) -> Source:
        given = [name for name in ("repo", "package", "folder") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"exactly one of repo, package and folder is needed, not {found}")
        if self.revision is not None and self.repo is None:
            raise ValueError("revision goes with repo")
        return self


class Weights(Source):
    """A model's weights, tokenizer and chat template."""

    file: RelativeFile | None = None
    """With `package`: the GGUF file inside it, converted to a Hugging Face folder when staged."""

    @model_validator(mode="after")
    def _file_goes_with_package(self) -> Weights:
        if (self.package is None) != (self.file is None):
            raise ValueError("package and file go together")
        return self


class Tokenizer(Source):
    """A model's tokenizer, config and chat template, without its weights."""

    @model_validator(mode="after")
    def _no_package(self) -> Tokenizer:
        if self.package is not None:
            raise ValueError("a tokenizer comes from a repo or a folder")
        return self


NO_SOURCE = Tokenizer.model_construct()
"""Of a model of which only its name at a server is known."""


class Dataset(Source):
    """Data that benchmarks read. A benchmark's task file names it as `${dataset:<id>}` (its folder)."""

    files: list[RelativeFile] = []
    """The files that are needed (in a repository: patterns); empty: all."""

    @model_validator(mode="after")
    def _package_names_files(self) -> Dataset:
        if self.package is not None and not self.files:
            raise ValueError("files is needed with package")
        return self
