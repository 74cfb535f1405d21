"""`config/hub.lock.yaml`: the commit of each branch or tag in the config when it was first asked for.

People commit the file, so that everyone stages the same. It is written by slurmeval alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError

from slurmeval.build_once import owned
from slurmeval.config.sources import Section
from slurmeval.config.yaml_files import read_yaml
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.files import write_atomically
from slurmeval.progress import Progress
from slurmeval.staging.hub_client import HubClient, explained
from slurmeval.staging.hub_errors import HubRetries
from slurmeval.staging.repository import HUB_LOCK, Kind, Repository

CONCURRENT_REQUESTS = 8
HEADER = """\
# The commits that branches and tags in the config stand for. Written by slurmeval; commit this file.
# `slurmeval stage lock --update` asks the hub again.
"""
_Commit = Annotated[str, StringConstraints(pattern="^[0-9a-f]{40}$")]
_Locked = dict[str, dict[str, _Commit]]


class HubLock(Section):
    """Contents of the file: repository -> branch or tag -> commit."""

    version: Literal[1] = 1
    models: _Locked = Field(default_factory=dict)
    datasets: _Locked = Field(default_factory=dict)

    def commit(self, kind: Kind, repo: str, revision: str) -> str | None:
        """Returns the commit that `revision` was locked to, if any."""
        return self._entries(kind).get(repo, {}).get(revision)

    def pinned(self, repository: Repository) -> Repository | None:
        """Returns the repository at its commit; None if its branch has no entry."""
        if repository.is_commit:
            return repository
        commit = self.commit(repository.kind, repository.name, repository.revision)
        return None if commit is None else repository.at(commit)

    def with_commits(self, commits: Mapping[Repository, str]) -> HubLock:
        """Returns the lock with these entries added or replaced."""
        models = {name: dict(entry) for name, entry in self.models.items()}
        datasets = {name: dict(entry) for name, entry in self.datasets.items()}
        for repository, commit in commits.items():
            entries = models if repository.kind == "model" else datasets
            entries.setdefault(repository.name, {})[repository.revision] = commit
        return HubLock(models=models, datasets=datasets)

    def _entries(self, kind: Kind) -> _Locked:
        return self.models if kind == "model" else self.datasets


@dataclass(frozen=True)
class CommitChange:
    """An entry that is new, or names another commit than before."""

    repository: Repository
    before: str | None
    now: str

    def __str__(self) -> str:
        """Returns it as a line for the user."""
        asked = self.repository
        was = f", was {self.before[:12]}" if self.before else ""
        return f"{asked.kind} {asked.name}, {asked.revision}: {self.now[:12]}{was}"


def read(project: Path) -> HubLock:
    """Returns the lock of a project folder; an empty one without a file. Asks nobody. Raises UserError."""
    path = project / HUB_LOCK
    if not path.exists():
        return HubLock()
    try:
        return HubLock.model_validate(read_yaml(path, HUB_LOCK), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{HUB_LOCK}: {place}: {first['msg']}; remove the entry and run `slurmeval stage lock`"
        ) from error


def pinned(project: Path, repository: Repository, hf_home: Path, progress: Progress) -> Repository:
    """Returns the repository at its locked commit. Without one the hub is asked, and the lock written."""
    locked = read(project).pinned(repository)
    if locked is None:
        resolve(project, [repository], hf_home, progress)
        locked = read(project).pinned(repository)
        assert locked is not None  # just written
    return locked


def resolve(
    project: Path,
    repositories: Iterable[Repository],
    hf_home: Path,
    progress: Progress,
    *,
    update: bool = False,
    retries: HubRetries | None = None,
) -> list[CommitChange]:
    """Asks the hub for the commits of the branches and tags among `repositories`, and writes the lock.

    Asks for those without an entry; with `update` for all. What another process locked meanwhile stays.

    Raises:
        SlurmevalError: A commit cannot be had (UserError if the hub refuses it). The others are written.
    """
    lock = read(project)
    asked = [
        repository
        for repository in dict.fromkeys(repositories)
        if not repository.is_commit and (update or lock.pinned(repository) is None)
    ]
    if not asked:
        return []
    progress(f"hub: asking for the commits of {len(asked)} branches or tags")

    def ask(repository: Repository) -> str | SlurmevalError:
        what = f"{repository.kind} {repository.name}"
        try:
            with explained(what, repository):
                return HubClient(what, repository, hf_home, retries or HubRetries(progress)).commit()
        except SlurmevalError as error:
            return error

    with ThreadPoolExecutor(CONCURRENT_REQUESTS) as pool:
        answers = dict(zip(asked, pool.map(ask, asked), strict=True))
    commits = {asked: answer for asked, answer in answers.items() if isinstance(answer, str)}
    changes = _write(project, commits, update, progress)
    for answer in answers.values():
        if isinstance(answer, SlurmevalError):
            raise answer
    return changes


def add(project: Path, lock: HubLock, progress: Progress) -> list[CommitChange]:
    """Adds the entries of another lock that this one lacks, and returns them."""
    commits: dict[Repository, str] = {}
    kinds: tuple[tuple[Kind, _Locked], ...] = (("model", lock.models), ("dataset", lock.datasets))
    for kind, entries in kinds:
        for name, revisions in entries.items():
            commits |= {Repository(kind, name, revision): commit for revision, commit in revisions.items()}
    return _write(project, commits, False, progress)


def _write(
    project: Path, commits: Mapping[Repository, str], update: bool, progress: Progress
) -> list[CommitChange]:
    """Writes the commits into the lock, as it is by now. Without `update` what is there stays."""
    path = project / HUB_LOCK
    if not commits:
        return []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with owned(path, HUB_LOCK, progress):
            lock = read(project)
            before = {asked: lock.commit(asked.kind, asked.name, asked.revision) for asked in commits}
            new = {
                asked: commit
                for asked, commit in commits.items()
                if before[asked] is None or (update and before[asked] != commit)
            }
            if new:
                write_atomically(path, _text(lock.with_commits(new)))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    return [CommitChange(asked, before[asked], commit) for asked, commit in new.items()]


def _text(lock: HubLock) -> str:
    """Returns YAML with all texts in quotes: a commit of digits around one `e` would be read as a number."""
    lines = [HEADER + f"version: {lock.version}"]
    for key, entries in (("models", lock.models), ("datasets", lock.datasets)):
        lines.append(f"{key}:" if entries else f"{key}: {{}}")
        for name, revisions in sorted(entries.items()):
            lines.append(f"  {json.dumps(name)}:")
            lines += [
                f"    {json.dumps(branch)}: {json.dumps(commit)}"
                for branch, commit in sorted(revisions.items())
            ]
    return "\n".join(lines) + "\n"
