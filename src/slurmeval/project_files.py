"""Files of a project folder that the package has too: the workflow, locks, suites and site profiles."""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).parent / "data"
"""The package's files, laid out as in a project folder."""

LOCKS = "containers/locks"
IMAGES_LOCK = "containers/images.lock.yaml"
IMAGES = "containers/images.yaml"


def project_file(project: Path, name: str) -> Path:
    """Returns the project's own file of that name, or the package's where the project has none."""
    own = project / name
    return own if own.exists() else DATA / name


def images_file(project: Path, name: str) -> Path:
    """Returns IMAGES or IMAGES_LOCK: the project's where it has either of them, else the package's."""
    has_own = (project / IMAGES).exists() or (project / IMAGES_LOCK).exists()
    return (project if has_own else DATA) / name


def environment_lock(project: Path, environment: str) -> Path:
    """Returns the lock of an environment. It may not exist."""
    return project_file(project, f"{LOCKS}/{environment}.lock")


def environment_locks(project: Path) -> dict[str, Path]:
    """Returns all locks by the environment's name: the package's, and the project's in their place."""
    found = [*(DATA / LOCKS).glob("*.lock"), *(project / LOCKS).glob("*.lock")]
    return {file.stem: file for file in sorted(found, key=lambda file: file.is_relative_to(project / LOCKS))}
