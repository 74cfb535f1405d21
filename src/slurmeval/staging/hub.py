"""Repositories of the Hugging Face hub, into HF_HOME in the hub's own cache layout, each file verified.

The hub's client downloads. It could verify, too (`verify_repo_checksums`), but reads every file of a snapshot
each time, one after another. Here each is read once, as it comes, and its hash is kept. Sizes are those of
the listing: the client's dry run asks for each file by itself. It writes no ref for a pinned commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from slurmeval.build_once import owned
from slurmeval.disk import folder_bytes, require_space
from slurmeval.errors import SlurmevalError
from slurmeval.files import create_exclusively
from slurmeval.processes import age_s
from slurmeval.progress import Progress, Transfer, size_text
from slurmeval.staging.hub_client import HubClient, Listed, explained
from slurmeval.staging.hub_errors import HubRetries
from slurmeval.staging.manifest import HashCache, hashes
from slurmeval.staging.repository import REMEDY, Repository
from slurmeval.state.manifest import StagedFile

CONCURRENT_DOWNLOADS = 4
ORPHAN_AGE_S = 600.0
"""A partial download that nobody has written to for this long was left by a killed process."""

Choose = Callable[[list[str], str], list[str]]
"""Chooses the needed ones of a repository's files. The second argument begins its messages."""


@dataclass(frozen=True)
class Snapshot:
    """A staged commit."""

    folder: Path
    commit: str
    files: list[StagedFile]


def stage_repository(
    what: str,
    repository: Repository,
    choose: Choose,
    hf_home: Path,
    progress: Progress,
    retries: HubRetries | None = None,
) -> Snapshot:
    """Downloads the files of one commit that `choose` picks, and checks each against the hub's hash.

    Files that are there and unchanged are neither downloaded nor read. If all are, nothing is written.

    Raises:
        UserError: The repository is missing or gated, has no such revision, or does not fit the disk.
        SlurmevalError: The network fails, or a file came damaged twice.
    """
    with explained(what, repository):
        client = HubClient(what, repository, hf_home, retries or HubRetries(progress))
        commit, listing = client.listing()
        root = client.cache / repository.folder
        folder = root / "snapshots" / commit
        wanted = [listing[name] for name in choose(sorted(listing), what)]
        hash_cache_path = client.records / f"{commit}.ledger.json"
        hash_cache = HashCache(hash_cache_path)
        if missing_files(folder, wanted, hash_cache) or not (root / "refs" / "main").exists():
            with owned(client.records, what, progress):
                hash_cache = HashCache(hash_cache_path)  # of whoever was at it before
                missing = missing_files(folder, wanted, hash_cache)
                if missing:
                    _download_all(client, commit, missing, hash_cache, progress)
                _write_ref(root, commit)
        staged = [StagedFile(file.path, file.size, str(hash_cache.recorded(file.path))) for file in wanted]
    return Snapshot(folder, commit, staged)


def missing_files(folder: Path, wanted: list[Listed], hash_cache: HashCache) -> list[Listed]:
    """Returns the files that are not in the snapshot, or were not verified as they are now."""

    def is_staged(file: Listed) -> bool:
        path = folder / file.path
        whole = path.is_file() and path.stat().st_size == file.size
        return whole and hash_cache.recall(folder, file.path) is not None

    return [file for file in wanted if not is_staged(file)]


def missing_bytes(root: Path, commit: str, files: list[Listed]) -> int:
    """Returns the bytes to be downloaded for these files.

    Files in the snapshot do not count, nor those that another commit has brought as blobs. `root` is the
    repository's folder in the cache.
    """
    to_come = {
        file.digest: file.size
        for file in files
        if not (root / "snapshots" / commit / file.path).exists()
        and not (root / "blobs" / file.digest).exists()
    }
    return sum(to_come.values())


def _download_all(
    client: HubClient, commit: str, files: list[Listed], hash_cache: HashCache, progress: Progress
) -> None:
    root = client.cache / client.repository.folder
    size = missing_bytes(root, commit, files)
    require_space(client.what, client.cache.parent, size, REMEDY)
    progress(f"{client.what}: {len(files)} files, {size_text(size)}")
    started = time.monotonic()
    root.mkdir(parents=True, exist_ok=True)
    _remove_orphans(client)
    before = folder_bytes(root)
    transfer = Transfer(client.what, progress, size, lambda: folder_bytes(root) - before)
    with transfer, ThreadPoolExecutor(CONCURRENT_DOWNLOADS) as pool:
        try:
            # the largest first: the last thread then does not end alone
            ordered = sorted(files, key=lambda file: -file.size)
            futures = [
                pool.submit(_download_verified, client, commit, file, hash_cache, progress)
                for file in ordered
            ]
            for future in futures:
                future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            hash_cache.save()
    progress(f"{client.what}: {size_text(size)}, {time.monotonic() - started:.0f} s")


def _download_verified(
    client: HubClient, commit: str, file: Listed, hash_cache: HashCache, progress: Progress
) -> None:
    folder = client.cache / client.repository.folder / "snapshots" / commit
    for again in (False, True):
        path = client.download(commit, file, again)
        if path.stat().st_size == file.size:
            sha256, digest = hashes(path, file.digest)
            if digest == file.digest:
                hash_cache.learn(folder, file.path, sha256)
                return
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        if not again:
            progress(f"{client.what}: {file.path} is damaged; downloading it once more")
    raise SlurmevalError(
        f"{client.what}: {file.path} came damaged twice: its hash is not the one that the hub lists"
    )


def _write_ref(root: Path, commit: str) -> None:
    """Writes `refs/main`, which a load without a revision looks for offline."""
    create_exclusively(root / "refs" / "main", commit)


def _remove_orphans(client: HubClient) -> None:
    """Removes partial files and locks of killed downloads.

    The client never looks at the partial files again. Where the file system has no locks the client makes
    files that name their process (the others are empty), and waits for them without end.
    """
    folder = client.repository.folder
    incomplete = (client.cache / folder / "blobs").glob("*.incomplete")
    locks = (file for file in (client.cache / ".locks" / folder).glob("*.lock") if file.stat().st_size)
    for file in (*incomplete, *locks):
        if age_s(file) > ORPHAN_AGE_S:
            file.unlink(missing_ok=True)
