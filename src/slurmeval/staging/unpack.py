"""Unpacking a parcel (parcel.py) where there is no internet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from slurmeval.build_once import owned
from slurmeval.errors import SlurmevalError
from slurmeval.files import create_exclusively, sha256_of_file, write_json
from slurmeval.progress import Progress
from slurmeval.staging import hub_lock
from slurmeval.staging.manifest import HASH_THREADS, Ledger
from slurmeval.staging.parcel import HF, Packed, Parcel, place, place_link, sha256_metered
from slurmeval.staging.transfer import Meter, disk_errors, megabytes, need_room

T = TypeVar("T")
NAMED = 3
"""Damaged files that a message names before it counts."""


@dataclass(frozen=True)
class Unpacked:
    """What was done."""

    placed: int
    there: int
    """Files that were there already, with the same content."""
    size: int
    differing: list[str]
    """Branches that stand for another commit in this project's lock."""


@dataclass(frozen=True)
class Goal:
    """Where a parcel is unpacked to."""

    hf_home: Path
    images: Path
    project: Path

    def of(self, path: str) -> Path:
        top, _, rest = path.partition("/")
        return (self.hf_home if top == HF else self.images) / rest


def unpack(folder: Path, goal: Goal, progress: Progress, copy: bool = False) -> Unpacked:
    """Verifies every file of the parcel, then puts all in place: as hard links where both are on one file
    system, unless `copy`. A file that is there with the right content is left as it is. Killed at any point,
    it leaves whole files only, and can be started again. Raises UserError or SlurmevalError."""
    parcel = Parcel.read(folder)
    _verify(folder, parcel, progress)
    with (
        disk_errors("import", goal.hf_home),
        owned(goal.hf_home / "slurmeval" / "import", "import", progress),
    ):
        missing = _missing(folder, parcel, goal)
        size = sum(file.size for file in missing)
        if copy or folder.stat().st_dev != _existing(goal.hf_home).stat().st_dev:
            need_room("import", goal.hf_home, size)
        progress(f"import: {len(missing)} of {len(parcel.files)} files to put in place, {megabytes(size)}")
        with Meter("import", size, progress) as meter:

            def put(file: Packed) -> None:
                place(folder / file.path, goal.of(file.path), copy, meter)

            _all(put, missing)
        _finish(parcel, goal)
        hub_lock.add(goal.project, parcel.lock, progress)
    there = len(parcel.files) - len(missing)
    return Unpacked(len(missing), there, size, _differing(parcel, goal.project))


def _verify(folder: Path, parcel: Parcel, progress: Progress) -> None:
    def problem(file: Packed) -> str | None:
        path = folder / file.path
        if not path.is_file():
            return f"{file.path} is missing"
        if path.stat().st_size != file.size or sha256_metered(path, meter) != file.sha256:
            return f"{file.path} is damaged"
        return None

    progress(f"import: verifying {len(parcel.files)} files, {megabytes(parcel.size)}")
    with Meter("import: verifying", parcel.size, progress) as meter:
        problems = [line for line in _all(problem, parcel.files.values()) if line]
    if problems:
        rest = f" and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise SlurmevalError(
            f"{folder}: {', '.join(problems[:NAMED])}{rest}: copy it again, with `rsync -ac`; "
            "nothing was imported"
        )


def _missing(folder: Path, parcel: Parcel, goal: Goal) -> list[Packed]:
    """The files that are not there with the content they should have."""

    def is_there(file: Packed) -> bool:
        path = goal.of(file.path)
        if not path.is_file() or path.stat().st_size != file.size:
            return False
        return path.samefile(folder / file.path) or sha256_of_file(path) == file.sha256

    files = list(parcel.files.values())
    return [file for file, there in zip(files, _all(is_there, files), strict=True) if not there]


def _finish(parcel: Parcel, goal: Goal) -> None:
    """What makes staging, and the hub's client, find the files: links, refs, ledgers, records of images."""
    for path, to in parcel.links.items():
        link = goal.of(path)
        wanted = link.parent / to
        if not (link.exists() and link.resolve() == wanted.resolve()):
            place_link(link, to)
    for path, commit in parcel.refs.items():
        create_exclusively(goal.hf_home / path, commit)
    for packed in parcel.ledgers.values():
        ledger = Ledger(goal.hf_home / packed.path)
        for name, sha256 in packed.sha256.items():
            ledger.learn(goal.hf_home / packed.folder, name, sha256)
        ledger.save()
    for record in parcel.images:
        sif = (goal.images / record["sif"]).absolute()
        stamp = sif.stat()
        moved = {**record, "sif": str(sif), "size": stamp.st_size, "mtime_ns": stamp.st_mtime_ns}
        write_json(sif.with_suffix(".json"), moved)


def _differing(parcel: Parcel, project: Path) -> list[str]:
    here = hub_lock.read(project)
    kinds = (("model", parcel.lock.models, here.models), ("dataset", parcel.lock.datasets, here.datasets))
    return [
        f"{kind} {name}, {revision}: {entries[name][revision][:12]} here, {commit[:12]} in the import"
        for kind, packed, entries in kinds
        for name, revisions in packed.items()
        for revision, commit in revisions.items()
        if entries[name][revision] != commit
    ]


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())


def _all(action: Callable[[Packed], T], files: Iterable[Packed]) -> list[T]:
    with ThreadPoolExecutor(HASH_THREADS) as pool:
        return list(pool.map(action, files))
