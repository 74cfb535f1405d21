"""The files of a model with their sizes, and its config.json, before it is staged too."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slurmeval.errors import SlurmevalError
from slurmeval.files import write_atomically
from slurmeval.staging import hub_lock
from slurmeval.staging.access import is_staged
from slurmeval.staging.hub_client import HubClient, explained
from slurmeval.staging.hub_errors import HubRetries, token
from slurmeval.staging.repository import Repository
from slurmeval.state.manifest import Manifest, StagedFile
from slurmeval.state.records import find

if TYPE_CHECKING:
    from slurmeval.planning.plan import Plan

CONFIG = "config.json"


@dataclass(frozen=True)
class ModelFiles:
    """A model's files, relative to `folder`, in which only config.json need be."""

    folder: Path
    files: list[StagedFile]


@contextmanager
def model_files(plan: Plan, model: str, ask_hub: bool) -> Iterator[ModelFiles | None]:
    """Yields a model's files: as staged, as they lie in its folder, or as the hub lists them.

    None: they are not known. The hub is asked only if `ask_hub`, and nothing is kept of its answer.
    """
    if (there := _here(plan, model)) is not None or not ask_hub:
        yield there
        return
    with tempfile.TemporaryDirectory(prefix="slurmeval-") as folder:
        yield _of_the_hub(plan, model, Path(folder))


def _here(plan: Plan, model: str) -> ModelFiles | None:
    staged = find(plan.project / plan.staged_model(model), Manifest)
    if staged is not None and staged.folder.is_dir():
        return ModelFiles(staged.folder, staged.files)
    source, hf_home = plan.config.models[model].source, plan.absolute.hf_home
    if source.folder is not None:
        return _in_folder(plan.project / source.folder)
    repository = _repository(plan, model)
    if repository is not None and is_staged(repository, hf_home):  # by a run with other results
        return _in_folder(repository.snapshot(hf_home, repository.revision))
    return None


def _in_folder(folder: Path) -> ModelFiles:
    found = ((path, path.stat()) for path in folder.rglob("*") if path.is_file())
    return ModelFiles(folder, [StagedFile(str(p.relative_to(folder)), s.st_size, "") for p, s in found])


def _repository(plan: Plan, model: str) -> Repository | None:
    asked = Repository.of(plan.config.models[model].source)
    return None if asked is None else hub_lock.read(plan.project).pinned(asked) or asked


def _of_the_hub(plan: Plan, model: str, folder: Path) -> ModelFiles | None:
    if (repository := _repository(plan, model)) is None:
        return None
    try:
        with explained(f"model {model}", repository):
            client = HubClient(f"model {model}", repository, folder, HubRetries(lambda _: None, attempts=1))
            client.token = token(plan.absolute.hf_home) or False
            commit, listing = client.listing()
            if CONFIG in listing:
                found = client.download(commit, listing[CONFIG], again=False)
                write_atomically(folder / CONFIG, found.read_bytes())
    except (SlurmevalError, OSError):
        return None
    return ModelFiles(folder, [StagedFile(file.path, file.size, "") for file in listing.values()])
