"""Verifies what was carried into HF_HOME by the lists of an export (export.py), and has it found there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from slurmeval.disk import disk_errors
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.files import create_exclusively, read_json
from slurmeval.progress import Progress, Transfer, size_text
from slurmeval.staging import hub_lock
from slurmeval.staging.export import DOCUMENT, EXPORT_FORMAT, FOLDER, SUMS
from slurmeval.staging.hub_lock import HubLock
from slurmeval.staging.manifest import HASH_THREADS, HashCache, sha256_counted
from slurmeval.staging.repository import REMEDY
from slurmeval.state.records import decode, write
from slurmeval.state.runtime_records import ImageRecord

NAMED_LIMIT = 3
"""Damaged files that a message names before it counts."""
_SUM = re.compile(r"([0-9a-f]{64}) [ *](.+)")


@dataclass(frozen=True)
class Lists:
    """What an export has written. Paths are relative to HF_HOME."""

    sums: dict[str, str]
    caches: dict[str, str]
    refs: dict[str, str]
    images: list[ImageRecord]
    lock: HubLock

    @classmethod
    def read(cls, folder: Path) -> Lists:
        """Raises UserError where the folder holds no lists, or damaged ones."""
        try:
            document = read_json(folder / DOCUMENT)
            if document is None:
                raise UserError(f"{folder} has no {DOCUMENT}: expected the lists of `slurmeval stage export`")
            if document["version"] != EXPORT_FORMAT:
                raise UserError(f"{folder}: made by another version of slurmeval")
            sums = {}
            for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
                match = _SUM.fullmatch(line)
                if match is None:
                    raise ValueError(line)
                sums[match[2]] = match[1]
            lock = HubLock.model_validate(document["lock"])
            images = [decode(image, ImageRecord) for image in document["images"]]
            lists = cls(sums, dict(document["caches"]), dict(document["refs"]), images, lock)
            lists._require_inside(folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{folder}: damaged lists; copy them again") from error
        return lists

    def _require_inside(self, folder: Path) -> None:
        """Refuses a path that leads out of HF_HOME: no export writes one."""
        for text in (*self.sums, *self.caches, *self.caches.values(), *self.refs):
            path = PurePosixPath(text)
            if path.parts[:1] not in {("hub",), ("slurmeval",)} or ".." in path.parts or str(path) != text:
                raise UserError(f"{folder}: {text} leads out of HF_HOME")
        for image in self.images:
            if image.sif.name != str(image.sif):
                raise UserError(f"{folder}: {image.sif} leads out of the folder of images")


@dataclass(frozen=True)
class ImportedFiles:
    """What was found."""

    files: int
    read: int
    """Files whose content was read; the others were verified before and not touched since."""
    size: int
    differing: list[str]
    """Branches that stand for another commit in this project's lock."""


def import_lists(hf_home: Path, images: Path, project: Path, progress: Progress) -> ImportedFiles:
    """Verifies every file that was carried, and remembers the hashes: staging then needs no network.

    Files in hash caches are read only if they were touched since.

    Raises:
        UserError: HF_HOME holds no lists of an export, or damaged ones.
        SlurmevalError: Files are damaged or missing. Nothing is remembered then.
    """
    lists = Lists.read(hf_home / FOLDER)
    known = list(_known_files(lists, hf_home))
    verified = {file.path for file in known if file.is_verified()}
    unread = {hf_home / path: sha256 for path, sha256 in lists.sums.items() if hf_home / path not in verified}
    unread |= {images / image.sif: image.sha256 for image in lists.images}
    size = _verify(unread, progress)
    with disk_errors("import", hf_home, REMEDY):
        for file in known:
            file.cache.learn(file.folder, file.name, file.sha256)
        for cache in {id(file.cache): file.cache for file in known}.values():
            cache.save()
        for path, commit in lists.refs.items():
            create_exclusively(hf_home / path, commit)
        for image in lists.images:
            _record_image(images, image)
        hub_lock.add(project, lists.lock, progress)
    differing = _differing(lists.lock, hub_lock.read(project))
    return ImportedFiles(len(lists.sums) + len(lists.images), len(unread), size, differing)


@dataclass(frozen=True)
class CachedFile:
    """A file that a hash cache tells of, or is to tell of."""

    cache: HashCache
    folder: Path
    name: str
    sha256: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / self.name

    def is_verified(self) -> bool:
        """Returns whether the file had the right content, and has not been touched since."""
        return self.path.is_file() and self.cache.recall(self.folder, self.name) == self.sha256


def _known_files(lists: Lists, hf_home: Path) -> Iterator[CachedFile]:
    """Yields what hash caches tell of: all but listings of repositories and wheels. A file may be in two."""
    caches: dict[str, list[HashCache]] = {}
    for cache, folder in lists.caches.items():
        caches.setdefault(folder, []).append(HashCache(hf_home / cache))
    for path, sha256 in lists.sums.items():
        for parent in map(str, PurePosixPath(path).parents):
            for known in caches.get(parent, ()):
                yield CachedFile(known, hf_home / parent, path.removeprefix(f"{parent}/"), sha256)


def _verify(files: Mapping[Path, str], progress: Progress) -> int:
    """Returns the bytes read. Raises SlurmevalError with the first files that are missing or damaged."""

    def problem(path: Path) -> str | None:
        if not path.is_file():
            return f"{path} is missing"
        return None if sha256_counted(path, transfer) == files[path] else f"{path} is damaged"

    size = sum(path.stat().st_size for path in files if path.is_file())
    progress(f"import: verifying {len(files)} files, {size_text(size)}")
    with Transfer("import: verifying", progress, size) as transfer, ThreadPoolExecutor(HASH_THREADS) as pool:
        problems = [line for line in pool.map(problem, files) if line]
    if problems:
        rest = f" and {len(problems) - NAMED_LIMIT} more" if len(problems) > NAMED_LIMIT else ""
        raise SlurmevalError(
            f"{', '.join(problems[:NAMED_LIMIT])}{rest}: copy again with the same rsync command and -c, "
            "then import again"
        )
    return size


def _record_image(images: Path, image: ImageRecord) -> None:
    sif = (images / image.sif).absolute()
    status = sif.stat()
    record = replace(image, sif=sif, size=status.st_size, mtime_ns=status.st_mtime_ns)
    write(sif.with_suffix(".json"), record)


def _differing(carried: HubLock, here: HubLock) -> list[str]:
    kinds = (("model", carried.models, here.models), ("dataset", carried.datasets, here.datasets))
    return [
        f"{kind} {name}, {revision}: {ours[name][revision][:12]} here, {commit[:12]} in the import"
        for kind, theirs, ours in kinds
        for name, revisions in theirs.items()
        for revision, commit in revisions.items()
        if ours[name][revision] != commit
    ]
