"""A parcel: a folder with what was staged, to be carried to a site without internet.

`hf/` is laid out as HF_HOME, `images/` holds SIFs, and `MANIFEST.json`, written last, lists every file with
size and sha256. All paths in it are relative, links too, so it may lie and be unpacked anywhere."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from slurmeval.errors import SlurmevalError, UserError
from slurmeval.files import read_json, write_json
from slurmeval.staging.hub_lock import HubLock
from slurmeval.staging.transfer import Meter

VERSION = 1
MANIFEST = "MANIFEST.json"
HF, IMAGES = "hf", "images"
CHUNK = 4 << 20


@dataclass(frozen=True)
class Packed:
    """A file of the parcel."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class PackedLedger:
    """Hashes that staging looks up, of files that lie in `folder`; both relative to HF_HOME."""

    path: str
    folder: str
    sha256: dict[str, str]


@dataclass
class Parcel:
    """What `MANIFEST.json` says."""

    files: dict[str, Packed] = field(default_factory=dict)
    """By path."""
    links: dict[str, str] = field(default_factory=dict)
    """Path -> where it points, relative to the folder it is in."""
    ledgers: dict[str, PackedLedger] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    """What the hub's cache has for branches: path -> commit. Made where there is none."""
    images: list[dict[str, Any]] = field(default_factory=list)
    """Images' records, of SIFs in `images/`."""
    lock: HubLock = field(default_factory=HubLock)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files.values())

    def write(self, folder: Path) -> None:
        document = {
            "version": VERSION,
            "complete": True,
            "bytes": self.size,
            "files": {path: [file.size, file.sha256] for path, file in sorted(self.files.items())},
            "links": self.links,
            "ledgers": [asdict(ledger) for ledger in self.ledgers.values()],
            "refs": self.refs,
            "images": self.images,
            "lock": self.lock.model_dump(mode="json"),
        }
        write_json(folder / MANIFEST, document)

    @classmethod
    def read(cls, folder: Path) -> Parcel:
        """Raises UserError where the folder is no parcel, or not a whole one."""
        try:
            read = read_json(folder / MANIFEST)
            if read is None:
                raise UserError(
                    f"{folder} has no {MANIFEST}: expected a folder made by `slurmeval stage export`"
                )
            if read["version"] != VERSION:
                raise UserError(f"{folder}: made by another version of slurmeval")
            if not read["complete"]:
                raise UserError(f"{folder}: its export was not finished: export again, then copy it again")
            parcel = cls(
                files={path: Packed(path, int(size), sha) for path, (size, sha) in read["files"].items()},
                links=read["links"],
                ledgers={ledger["path"]: PackedLedger(**ledger) for ledger in read["ledgers"]},
                refs=read["refs"],
                images=read["images"],
                lock=HubLock.model_validate(read["lock"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{folder / MANIFEST}: damaged; copy it again") from error
        parcel._require_inside(folder)
        return parcel

    def _require_inside(self, folder: Path) -> None:
        """A path that leads out of the parcel was not written by an export."""
        places = [*self.files, *self.links, *(f"{HF}/{path}" for path in self.refs)]
        places += [
            f"{HF}/{path}" for ledger in self.ledgers.values() for path in (ledger.path, ledger.folder)
        ]
        places += [f"{IMAGES}/{record['sif']}" for record in self.images]
        places += [os.path.normpath(PurePosixPath(path).parent / to) for path, to in self.links.items()]
        for place in places:
            path = PurePosixPath(place)
            inside = path.parts[:1] in ((HF,), (IMAGES,)) and ".." not in path.parts
            if not inside or path.as_posix() != place:  # `hf//etc` joined to a folder would be `/etc`
                raise UserError(f"{folder / MANIFEST}: {place} leads out of the folder")


def place(source: Path, goal: Path, copy: bool, meter: Meter) -> None:
    """Puts the file at `goal`, whole or not at all, with its time: as a hard link where both are on one file
    system, unless `copy`. What was at `goal` is replaced."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    source = source.resolve()
    aside = goal.with_name(f".{hashlib.sha256(goal.name.encode()).hexdigest()[:16]}.placing")
    aside.unlink(missing_ok=True)  # of one that was killed
    try:
        if copy or not _linked(source, aside):
            _copy(source, aside, meter)
        else:
            meter.add(source.stat().st_size)
        aside.replace(goal)
    finally:
        aside.unlink(missing_ok=True)  # also if both were one file: then renaming does nothing


def place_link(path: Path, to: str) -> None:
    """Makes the symbolic link, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{hashlib.sha256(path.name.encode()).hexdigest()[:16]}.placing")
    aside.unlink(missing_ok=True)
    aside.symlink_to(to)
    aside.replace(path)


def sha256_metered(path: Path, meter: Meter) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            meter.add(len(chunk))
    return digest.hexdigest()


def _linked(source: Path, goal: Path) -> bool:
    try:
        os.link(source, goal)
    except OSError:  # another file system, or one without hard links
        return False
    return True


def _copy(source: Path, goal: Path, meter: Meter) -> None:
    with source.open("rb") as reading, goal.open("xb") as writing:
        while chunk := reading.read(CHUNK):
            writing.write(chunk)
            meter.add(len(chunk))
        writing.flush()
        os.fsync(writing.fileno())
    shutil.copystat(source, goal)
    if goal.stat().st_size != source.stat().st_size:
        raise SlurmevalError(f"{source}: changed while it was copied")
