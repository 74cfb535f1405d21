"""Packing what was staged into a parcel (parcel.py)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurmeval.errors import UserError
from slurmeval.files import read_json, write_json
from slurmeval.progress import Progress
from slurmeval.staging.fetched import note_of, noted
from slurmeval.staging.hub_lock import HubLock
from slurmeval.staging.manifest import HASH_THREADS, Ledger
from slurmeval.staging.packages import package_folder
from slurmeval.staging.parcel import (
    HF,
    IMAGES,
    MANIFEST,
    VERSION,
    Packed,
    PackedLedger,
    Parcel,
    place,
    place_link,
    sha256_metered,
)
from slurmeval.staging.transfer import Meter, disk_errors, megabytes, need_room


@dataclass(frozen=True)
class Source:
    """A file on this machine, and what is known of its content."""

    path: Path
    size: int
    sha256: str | None
    """None: to be found out."""
    trusted: bool
    """Whether it has not been touched since `sha256` was found."""


@dataclass
class Packing:
    """A parcel in the making."""

    hf_home: Path
    parcel: Parcel = field(default_factory=Parcel)
    sources: dict[str, Source] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def add_manifest(self, file: Path) -> None:
        """A staged model, dataset or rehearsal. Raises UserError where it is not staged, or not whole."""
        try:
            manifest = read_json(file)
        except ValueError as error:
            raise UserError(f"{file}: damaged; delete it and stage again") from error
        if manifest is None:
            raise UserError(f"{file}: not staged yet: `snakemake staged …` with this config first")
        folder, names = Path(manifest["folder"]), {f["path"]: f["sha256"] for f in manifest["files"]}
        if not names:
            return
        if not folder.is_relative_to(self.hf_home):
            self.left_out.append(f"{manifest['kind']} {manifest['id']} is in {folder}")
        elif folder.is_relative_to(self.hf_home / "hub"):
            self._add_snapshot(folder, names, self._records(folder))
            self._add_file(self._listing(folder))
        else:
            suffix = ".ledger.json" if manifest["kind"] == "benchmark" else ".json"
            self._add_folder(folder, names, folder.with_name(folder.name + suffix))
            if package := manifest["source"].get("package"):
                for path in sorted(package_folder(package, self.hf_home / "slurmeval").iterdir()):
                    self._add_file(path)

    def add_fetched(self) -> None:
        """What harnesses have fetched by themselves."""
        for folder in noted(self.hf_home):
            names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
            self._add_snapshot(folder, dict.fromkeys(names), note_of(self.hf_home, folder))

    def add_image(self, record: Path) -> None:
        """A pulled image, by its record."""
        known = read_json(record)
        if known is None:
            raise UserError(f"{record}: not pulled yet: `snakemake staged …` with this config first")
        sif = Path(known["sif"])
        if sif.parent.resolve() != record.parent.resolve():
            self.left_out.append(f"image {known['id']} is in {sif}")
            return
        status = sif.stat()
        trusted = (status.st_size, status.st_mtime_ns) == (known["size"], known["mtime_ns"])
        self.sources[f"{IMAGES}/{sif.name}"] = Source(sif, known["size"], known["sha256"], trusted)
        self.parcel.images.append({**known, "sif": sif.name, "mtime_ns": None})

    def _records(self, snapshot: Path) -> Path:
        return self._listing(snapshot).with_suffix(".ledger.json")

    def _listing(self, snapshot: Path) -> Path:
        return self.hf_home / "slurmeval" / "hub" / snapshot.parents[1].name / f"{snapshot.name}.json"

    def _add_snapshot(self, folder: Path, names: dict[str, Any], ledger: Path) -> None:
        """One commit of a repository: its files among the repository's own blobs, wherever they lie here."""
        known = Ledger(ledger)
        root = folder.parents[1]
        for name in names:
            path = folder / name
            if path.is_symlink():
                blob = root / "blobs" / path.readlink().name
                self._add_source(blob, path, names[name], _recalled(known, folder, name))
                self.parcel.links[self._inside(path)] = os.path.relpath(blob, path.parent)
            else:
                self._add_source(path, path, names[name], _recalled(known, folder, name))
        self._add_ledger(folder, names, ledger)
        for ref in (root / "refs").rglob("*"):
            if ref.is_file() and ref.read_text().strip() == folder.name:
                self.parcel.refs[ref.relative_to(self.hf_home).as_posix()] = folder.name

    def _add_folder(self, folder: Path, names: dict[str, Any], ledger: Path) -> None:
        known = Ledger(ledger)
        for name in names:
            path = folder / name
            if path.is_symlink() and path.resolve().is_relative_to(folder.resolve()):
                to = os.path.relpath(path.resolve(), path.parent.resolve())
                self.parcel.links[self._inside(path)] = to
                path = path.resolve()
            self._add_source(path, path, names[name], _recalled(known, folder, name))
        self._add_ledger(folder, names, ledger)

    def _add_file(self, path: Path) -> None:
        self._add_source(path, path, None, None)

    def _add_source(self, at: Path, path: Path, sha256: str | None, recalled: str | None) -> None:
        if not path.is_file():
            raise UserError(f"{path}: is missing: stage again (`slurmeval verify`)")
        if sha256 is None:
            sha256 = recalled
        trusted = recalled is not None and recalled == sha256
        if (known := self.sources.get(self._inside(at))) is not None and known.trusted:
            return
        self.sources[self._inside(at)] = Source(path, path.stat().st_size, sha256, trusted)

    def _add_ledger(self, folder: Path, names: Iterable[str], ledger: Path) -> None:
        path, below = (place.relative_to(self.hf_home).as_posix() for place in (ledger, folder))
        self.parcel.ledgers[path] = PackedLedger(path, below, dict.fromkeys(names, ""))

    def _inside(self, path: Path) -> str:
        return f"{HF}/{path.relative_to(self.hf_home).as_posix()}"

    def sum_up(self, hashes: dict[str, str]) -> Parcel:
        """The parcel, once the hash of every file is known."""
        parcel = self.parcel
        for path, source in self.sources.items():
            parcel.files[path] = Packed(path, source.size, hashes[path])
        for ledger in parcel.ledgers.values():
            for name in ledger.sha256:
                path = f"{HF}/{ledger.folder}/{name}"
                target = parcel.links.get(path)
                if target is not None:
                    path = os.path.normpath(Path(path).parent / target)
                ledger.sha256[name] = hashes[path]
        return parcel


def _recalled(ledger: Ledger, folder: Path, name: str) -> str | None:
    try:
        return ledger.recall(folder, name)
    except FileNotFoundError:
        return None


def export(
    folder: Path,
    manifests: Sequence[Path],
    images: Sequence[Path],
    lock: HubLock,
    hf_home: Path,
    progress: Progress,
) -> tuple[Parcel, list[str]]:
    """Makes or brings up to date the parcel in `folder`: what the manifests of staged things and the records
    of images name. Files are hard links where they can be. Gives the parcel, and what is not in it since it
    lies elsewhere. Raises UserError."""
    packing = Packing(hf_home.absolute())
    for manifest in manifests:
        packing.add_manifest(manifest)
    packing.add_fetched()
    for record in images:
        packing.add_image(record)
    packing.parcel.lock = lock
    remedy = "export to another place"
    with disk_errors("export", folder, remedy):
        _begin(folder)
        hashes = _hash(packing.sources, progress)
        parcel = packing.sum_up(hashes)
        if folder.stat().st_dev != hf_home.stat().st_dev:
            missing = [
                source.size for path, source in packing.sources.items() if not (folder / path).exists()
            ]
            need_room("export", folder, sum(missing), remedy)
        _place(packing, folder, progress)
        _remove_others(folder, parcel)
        parcel.write(folder)
    return parcel, packing.left_out


def _begin(folder: Path) -> None:
    """Marks the folder as a parcel that is not whole. Raises UserError where it is something else."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise UserError(f"{folder}: is no export and not empty: name another folder")
    write_json(folder / MANIFEST, {"version": VERSION, "complete": False})


def _hash(sources: dict[str, Source], progress: Progress) -> dict[str, str]:
    """The sha256 of each file; only those are read that were touched, or never were. Raises UserError where
    one is not what was staged."""
    unread = {path: source for path, source in sources.items() if not source.trusted}

    def read(source: Source) -> str:
        sha256 = sha256_metered(source.path, meter)
        if source.sha256 is not None and sha256 != source.sha256:
            raise UserError(f"{source.path}: its content has changed since it was staged: stage again")
        return sha256

    total = sum(source.size for source in unread.values())
    with Meter("export: hashing", total, progress) as meter, ThreadPoolExecutor(HASH_THREADS) as pool:
        found = dict(zip(unread, pool.map(read, unread.values()), strict=True))
    return {path: found.get(path) or str(source.sha256) for path, source in sources.items()}


def _place(packing: Packing, folder: Path, progress: Progress) -> None:
    def one(item: tuple[str, Source]) -> None:
        path, source = item
        goal, status = folder / path, source.path.stat()
        if not goal.is_symlink() and goal.is_file():
            there = goal.stat()
            if (there.st_size, there.st_mtime_ns) == (status.st_size, status.st_mtime_ns):
                meter.add(source.size)
                return
        place(source.path, goal, False, meter)

    total = sum(source.size for source in packing.sources.values())
    progress(f"export: {len(packing.sources)} files, {megabytes(total)}")
    with Meter("export", total, progress) as meter, ThreadPoolExecutor(HASH_THREADS) as pool:
        list(pool.map(one, packing.sources.items()))
    for path, to in packing.parcel.links.items():
        place_link(folder / path, to)


def _remove_others(folder: Path, parcel: Parcel) -> None:
    """What earlier exports have left in the folder: rsync would carry it along."""
    for top in (HF, IMAGES):
        for base, folders, names in os.walk(folder / top, topdown=False):
            for name in [*names, *folders]:
                path = Path(base) / name
                inside = path.relative_to(folder).as_posix()
                if path.is_symlink() or path.is_file():
                    if inside not in parcel.files and inside not in parcel.links:
                        path.unlink()
                elif not any(path.iterdir()):
                    path.rmdir()
