"""Environments and images that runs under way use, so that nothing is removed beneath them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from slurmeval.cli.naming import require_results
from slurmeval.cli.run_state import live_servers
from slurmeval.errors import UserError
from slurmeval.ownership import live_owner
from slurmeval.paths import Paths
from slurmeval.state.records import find, load
from slurmeval.state.run_document import RunDocument
from slurmeval.state.runtime_records import EnvironmentRecord, ImageRecord

SEARCH_DEPTH = 3
"""Levels below the project at which results folders are looked for."""


def require_project(file: Path) -> None:
    """Raises UserError unless the current folder is a project: elsewhere all would seem unwanted.

    A project has `file`, which says what is wanted, or a Snakefile that takes it from the package.
    """
    if not file.exists() and not Path("Snakefile").exists():
        raise UserError(f"{Path.cwd()} is no project folder: {file} is not there; nothing was removed")


def shown(path: Path) -> Path:
    """Returns `path` as a user in the current folder would write it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def in_use(results: Sequence[Path]) -> dict[Path, Path]:
    """Returns the environments' folders and images that runs under way use, by absolute path.

    Each comes with the results folder of one such run. Looks at `results`, and at all results folders below
    the current one.

    Raises:
        UserError: One of `results` is not there. What its runs use would not be known.
    """
    for named in results:
        require_results(named)
    return {
        used: folder
        for folder in sorted({*_results_below(Path.cwd()), *(named.absolute() for named in results)})
        if _is_under_way(folder)
        for used in _named_by_runs(folder)
    }


def _results_below(project: Path) -> Iterator[Path]:
    for depth in range(1, SEARCH_DEPTH + 1):
        for runs in project.glob("*/" * depth + "state/runs"):
            yield runs.parents[1]


def _is_under_way(results: Path) -> bool:
    """Whether a controller, a server or an evaluation of `results` is alive."""
    paths = Paths.of_results(results)
    lock_files = [paths.controller, *results.glob("work/*/*/*/owner.json")]
    return bool(live_servers(paths)) or any(live_owner(lock_file) is not None for lock_file in lock_files)


def _named_by_runs(results: Path) -> Iterator[Path]:
    for file in (results / "state" / "runs").glob("*.json"):
        run = load(file, RunDocument)
        for entry in (*run.models.values(), *run.benchmarks.values()):
            if entry.environment is None:
                continue
            if entry.runtime == "image":
                image = find(entry.environment, ImageRecord)
                yield from [image.sif] if image else []
            else:
                environment = find(entry.environment, EnvironmentRecord)
                yield from [environment.folder] if environment else []
