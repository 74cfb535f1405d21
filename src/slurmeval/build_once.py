"""Building once what several runs want at the same time: one builds, the others wait and find it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slurmeval.errors import SlurmevalError
from slurmeval.files import read_json
from slurmeval.ownership import LockFile
from slurmeval.progress import Progress


@contextmanager
def owned(path: Path, what: str, progress: Progress, wait_s: float = 7200) -> Iterator[None]:
    """Holds `path` alone (it need not exist), by the lock file `<path>.owner`.

    Waits for a live owner, and reports that once. A dead owner's lock is taken over.

    Raises:
        SlurmevalError: A live owner has held it for `wait_s` seconds.
    """
    lock_file = LockFile(path.with_name(f"{path.name}.owner"))
    owner = lock_file.take()
    if owner is not None:
        if wait_s > 0:
            progress(f"{what}: {owner} is at it; waiting")
        if lock_file.wait(wait_s) is not None:
            raise SlurmevalError(f"{what}: {owner} has been at it for more than {wait_s:.0f} s")
    try:
        yield
    finally:
        lock_file.release()


def forget_lost(folder: Path, key: str) -> None:
    """Removes the workflow's records in `folder` of things that are gone.

    Their paths stand in the records under `key`. Snakemake builds again what has no record.
    """
    for record in folder.glob("*~*.json"):
        try:
            there = Path(read_json(record)[key]).exists()
        except (ValueError, TypeError, KeyError):
            there = False
        if not there:
            record.unlink(missing_ok=True)
