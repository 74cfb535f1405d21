"""One folder for each try of an evaluation, so that the results of two tries never mix.

Harnesses resume in their own caches, and then count some samples twice or not at all. Here the gateway
replays what was answered before, so each try begins in an empty folder and asks everything.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from slurmeval.errors import ErrorClass, EvaluationFailed


def _attempts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9][0-9][0-9][0-9]") if path.is_dir())


def begin_attempt(folder: Path) -> Path:
    """Makes the next numbered folder.

    The folder of the attempt before is kept, so that a failure can be looked into; older ones are removed.
    """
    before = _attempts(folder)
    for old in before[:-1]:
        shutil.rmtree(old)
    number = int(before[-1].name) + 1 if before else 1
    attempt = folder / f"{number:04d}"
    attempt.mkdir(parents=True)
    return attempt


def has_attempt(folder: Path) -> bool:
    """Returns whether the folder of an attempt is left."""
    return bool(_attempts(folder))


def last_attempt(folder: Path) -> Path:
    """Returns the folder of the last attempt.

    Raises:
        EvaluationFailed: There was no attempt.
    """
    found = _attempts(folder)
    if not found:
        raise EvaluationFailed(ErrorClass.BAD_RESULT, f"no attempt in {folder}")
    return found[-1]
