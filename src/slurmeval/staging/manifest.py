"""Manifests: what was staged, where it lies, each file's size and sha256.

A hash cache remembers the hash of a file by its size and modification time, so that staging the same files
again reads none of them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slurmeval.errors import UserError
from slurmeval.files import read_json, sha256_of_file, write_json
from slurmeval.progress import Transfer
from slurmeval.state.manifest import Manifest, Rehearsed, StagedFile
from slurmeval.state.records import JsonObject, Unreadable, load, write

CHUNK_BYTES = 4 << 20
HASH_THREADS = min(8, os.cpu_count() or 1)


class HashCache:
    """Hashes of a folder's files that were read before.

    Maps the path in the folder to size, modification time in ns, and sha256.
    """

    def __init__(self, path: Path) -> None:
        """Reads the cache at `path`. One that is missing or damaged is empty."""
        self.path = path
        try:
            read = read_json(path)
        except ValueError:  # damaged: what it remembered is found out again
            read = None
        self._known: dict[str, dict[str, Any]] = read if isinstance(read, dict) else {}

    def recall(self, folder: Path, name: str) -> str | None:
        """Returns the sha256 of `folder/name` if it was hashed and has not been touched since."""
        known = self._known.get(name)
        status = (folder / name).stat()
        if known and (known["size"], known["mtime_ns"]) == (status.st_size, status.st_mtime_ns):
            return str(known["sha256"])
        return None

    def recorded(self, name: str) -> str | None:
        """Returns the sha256 that `name` had when it was staged, whatever has become of it."""
        return str(self._known[name]["sha256"]) if name in self._known else None

    def learn(self, folder: Path, name: str, sha256: str) -> None:
        """Remembers the hash of `folder/name` as the file is now."""
        status = (folder / name).stat()
        self._known[name] = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256}

    @property
    def names(self) -> list[str]:
        """Paths of the files, sorted."""
        return sorted(self._known)

    def save(self) -> None:
        """Writes the cache to its file."""
        write_json(self.path, self._known)


def sha256_counted(path: Path, transfer: Transfer) -> str:
    """Returns a file's sha256 in hex, and tells `transfer` of each piece read."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            transfer.add(len(chunk))
    return digest.hexdigest()


def hash_files(folder: Path, names: Iterable[str], hash_cache: HashCache) -> list[StagedFile]:
    """Returns size and sha256 of each file, sorted by name. Updates and saves the hash cache."""

    def one(name: str) -> StagedFile:
        sha256 = hash_cache.recall(folder, name)
        if sha256 is None:
            sha256 = sha256_of_file(folder / name)
            hash_cache.learn(folder, name, sha256)
        return StagedFile(name, (folder / name).stat().st_size, sha256)

    with ThreadPoolExecutor(HASH_THREADS) as pool:
        files = list(pool.map(one, sorted(names)))
    hash_cache.save()
    return files


def hashes(path: Path, like: str) -> tuple[str, str]:
    """Returns a file's sha256, and its hash of the kind of `like`.

    That is sha256 itself (64 digits), or git's sha1 of a blob (40 digits). The file is read once.
    """
    if len(like) == 64:
        sha256 = sha256_of_file(path)
        return sha256, sha256
    both = hashlib.sha256()
    git = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            both.update(chunk)
            git.update(chunk)
    return both.hexdigest(), git.hexdigest()


def is_whole(folder: Path, hash_cache: HashCache) -> bool:
    """Returns whether all files of the hash cache have the content they had. Reads only touched files."""
    if not folder.is_dir() or not hash_cache.names:
        return False
    for name in hash_cache.names:
        if not (folder / name).is_file():
            return False
        recorded = hash_cache.recorded(name)
        if hash_cache.recall(folder, name) is None and sha256_of_file(folder / name) != recorded:
            return False
    return True


def write_manifest(
    output: Path,
    kind: str,
    identifier: str,
    source: JsonObject,
    revision: str | None,
    folder: Path,
    files: list[StagedFile],
    rehearsed: Rehearsed | None = None,
) -> Manifest:
    """Writes the manifest of a staged model, dataset or benchmark to `output`, and returns it."""
    manifest = Manifest(
        kind=kind,
        id=identifier,
        source=source,
        revision=revision,
        folder=folder,
        files=files,
        bytes=sum(file.size for file in files),
        staged_at=datetime.now(UTC).isoformat(timespec="seconds"),
        rehearsed=rehearsed,
    )
    write(output, manifest)
    return manifest


def verify(manifest: Path, full: bool = False) -> list[str]:
    """Returns what is wrong with the files of a manifest, one line each; an empty list if all are there.

    Args:
        manifest: The manifest's file.
        full: Compare contents, not only sizes.

    Raises:
        UserError: There is no manifest, or it is damaged.
    """
    try:
        staged = load(manifest, Manifest)
    except FileNotFoundError:
        raise UserError(f"{manifest}: not staged") from None
    except Unreadable as error:
        raise UserError(f"{manifest}: damaged manifest; delete it and stage again") from error

    def problem(file: StagedFile) -> str | None:
        path = staged.folder / file.path
        if not path.is_file():
            return f"{path}: missing"
        size = path.stat().st_size
        if size != file.size:
            return f"{path}: {size} bytes instead of {file.size}"
        if full and sha256_of_file(path) != file.sha256:
            return f"{path}: its content has changed since it was staged"
        return None

    with ThreadPoolExecutor(HASH_THREADS) as pool:
        return [found for found in pool.map(problem, staged.files) if found]
