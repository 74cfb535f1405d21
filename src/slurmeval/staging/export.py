"""Lists what a config has staged, for rsync to carry it to a site without internet.

`<HF_HOME>/slurmeval/export/` gets four files, written anew by each export:

files.txt     every file, relative to HF_HOME, for `rsync -aL --files-from`; these lists are in it
SHA256SUMS    their hashes, for `sha256sum -c` in HF_HOME
images.txt    the SIFs, relative to the folder of images
export.json   what the import needs beside: hash caches, refs, images' records, commits of branches

rsync's `-L` makes files of the links of the hub's cache, so that blobs may lie anywhere here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from slurmeval.disk import disk_errors
from slurmeval.errors import UserError
from slurmeval.files import write_atomically, write_json
from slurmeval.progress import Progress, Transfer
from slurmeval.staging.fetched import note_of, noted
from slurmeval.staging.hub_lock import HubLock
from slurmeval.staging.manifest import HASH_THREADS, HashCache, sha256_counted
from slurmeval.staging.packages import package_folder
from slurmeval.staging.repository import REMEDY
from slurmeval.state.manifest import Manifest
from slurmeval.state.records import Unreadable, encode, load
from slurmeval.state.runtime_records import ImageRecord

EXPORT_FORMAT = 1
FOLDER = "slurmeval/export"
"""Of the lists, below HF_HOME."""
FILES, SUMS, IMAGES, DOCUMENT = "files.txt", "SHA256SUMS", "images.txt", "export.json"


@dataclass(frozen=True)
class KnownFile:
    """A file to be carried, and what is known of its content."""

    path: Path
    sha256: str | None
    is_verified: bool
    """Whether the file has not been touched since it had this hash."""


@dataclass
class Export:
    """What is listed. Paths are relative to HF_HOME."""

    hf_home: Path
    files: dict[str, KnownFile] = field(default_factory=dict)
    caches: dict[str, str] = field(default_factory=dict)
    """Each hash cache to be made by the import, and the folder whose files it tells of."""
    refs: dict[str, str] = field(default_factory=dict)
    """Branches of the hub's cache: path -> commit."""
    images: list[ImageRecord] = field(default_factory=list)
    """Images' records; `sif` is the file's name alone."""
    sifs: dict[str, KnownFile] = field(default_factory=dict)
    """Relative to the folder of images."""
    left_out: list[str] = field(default_factory=list)
    """What lies elsewhere, one line each."""
    size: int = 0

    def add_manifest(self, file: Path) -> None:
        """Adds a staged model, dataset or rehearsal. Raises UserError where it is not staged whole."""
        try:
            manifest = load(file, Manifest)
        except FileNotFoundError:
            raise UserError(f"{file}: not staged yet: `snakemake staged …` with this config first") from None
        except Unreadable as error:
            raise UserError(f"{file}: damaged; delete it and stage again") from error
        folder, hashes = manifest.folder, {staged.path: staged.sha256 for staged in manifest.files}
        if not hashes:
            return
        if not folder.is_relative_to(self.hf_home):
            self.left_out.append(f"{manifest.kind} {manifest.id} is in {folder}")
        elif folder.is_relative_to(self.hf_home / "hub"):
            listing = self.hf_home / "slurmeval" / "hub" / folder.parents[1].name / f"{folder.name}.json"
            self._add_folder(folder, hashes, listing.with_suffix(".ledger.json"))
            self._add_file(listing)
            self._add_refs(folder)
        else:
            suffix = ".ledger.json" if manifest.kind == "benchmark" else ".json"
            self._add_folder(folder, hashes, folder.with_name(folder.name + suffix))
            if package := manifest.source.get("package"):
                for path in sorted(package_folder(package, self.hf_home / "slurmeval").iterdir()):
                    self._add_file(path)

    def add_fetched(self) -> None:
        """Adds what harnesses have fetched by themselves."""
        for folder in noted(self.hf_home):
            names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
            self._add_folder(folder, dict.fromkeys(names), note_of(self.hf_home, folder))
            self._add_refs(folder)

    def add_image(self, record: Path) -> None:
        """Adds a pulled image, by its record. Raises UserError where it is not pulled."""
        try:
            known = load(record, ImageRecord)
        except FileNotFoundError:
            text = f"{record}: not pulled yet: `snakemake staged …` with this config first"
            raise UserError(text) from None
        sif = known.sif
        if sif.parent.resolve() != record.parent.resolve():
            self.left_out.append(f"image {known.id} is in {sif}")
            return
        status = sif.stat()
        verified = (status.st_size, status.st_mtime_ns) == (known.size, known.mtime_ns)
        self.sifs[sif.name] = KnownFile(sif, known.sha256, verified)
        self.images.append(replace(known, sif=Path(sif.name)))
        self.size += status.st_size

    def _add_folder(self, folder: Path, hashes: Mapping[str, str | None], cache: Path) -> None:
        known = HashCache(cache)
        for name, sha256 in hashes.items():
            path = folder / name
            if not path.is_file():
                raise UserError(f"{path}: is missing: stage again (`slurmeval verify`)")
            recalled = known.recall(folder, name)
            verified = recalled is not None and sha256 in (None, recalled)
            self._add(KnownFile(path, sha256 or recalled, verified))
        self.caches[self._inside(cache)] = self._inside(folder)

    def _add_file(self, path: Path) -> None:
        self._add(KnownFile(path, None, False))

    def _add(self, file: KnownFile) -> None:
        path = self._inside(file.path)
        if "\n" in path or "\\" in path:
            raise UserError(f"{file.path}: a line break or \\ in a file's name cannot be exported")
        if path not in self.files:
            self.files[path] = file
            self.size += file.path.stat().st_size

    def _add_refs(self, snapshot: Path) -> None:
        for ref in (snapshot.parents[1] / "refs").rglob("*"):
            if ref.is_file() and ref.read_text().strip() == snapshot.name:
                self.refs[self._inside(ref)] = snapshot.name

    def _inside(self, path: Path) -> str:
        return path.relative_to(self.hf_home).as_posix()


def export(
    manifests: Sequence[Path],
    images: Sequence[Path],
    lock: HubLock,
    hf_home: Path,
    progress: Progress,
) -> Export:
    """Lists the files that manifests of staged things and records of images name, with their hashes.

    Reads files that were touched since they were staged.

    Raises:
        UserError: Something is missing or has changed. There are no lists then.
    """
    found = Export(hf_home.absolute())
    folder = found.hf_home / FOLDER
    with disk_errors("export", folder, REMEDY):
        folder.mkdir(parents=True, exist_ok=True)
        for name in (FILES, SUMS, IMAGES, DOCUMENT):
            (folder / name).unlink(missing_ok=True)
        for manifest in manifests:
            found.add_manifest(manifest)
        found.add_fetched()
        for record in images:
            found.add_image(record)
        sums = _hash(found.files | found.sifs, progress)
        document = {
            "version": EXPORT_FORMAT,
            "lock": lock.model_dump(mode="json"),
            "caches": found.caches,
            "refs": found.refs,
            "images": [encode(image) for image in found.images],
        }
        write_json(folder / DOCUMENT, document)
        write_atomically(folder / SUMS, _lines(f"{sums[path]}  {path}" for path in sorted(found.files)))
        write_atomically(folder / IMAGES, _lines(sorted(found.sifs)))
        lists = [f"{FOLDER}/{name}" for name in (SUMS, DOCUMENT)]
        write_atomically(folder / FILES, _lines([*sorted(found.files), *lists]))
    return found


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _hash(files: dict[str, KnownFile], progress: Progress) -> dict[str, str]:
    """Returns the sha256 of each file. Raises UserError where one is not what was staged."""
    unread = {path: file for path, file in files.items() if not file.is_verified}

    def read(file: KnownFile) -> str:
        sha256 = sha256_counted(file.path, transfer)
        if file.sha256 not in (None, sha256):
            raise UserError(f"{file.path}: its content has changed since it was staged: stage again")
        return sha256

    total = sum(file.path.stat().st_size for file in unread.values())
    with Transfer("export: hashing", progress, total) as transfer, ThreadPoolExecutor(HASH_THREADS) as pool:
        found = dict(zip(unread, pool.map(read, unread.values()), strict=True))
    return {path: found.get(path) or str(file.sha256) for path, file in files.items()}
