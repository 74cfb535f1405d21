"""Repositories of the Hugging Face hub, into HF_HOME in the hub's own cache layout, each file verified.

The hub's client checks no content, and writes no ref for a pinned commit: this module does both."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from slurmeval.build_once import owned
from slurmeval.errors import SlurmevalError
from slurmeval.files import create_exclusively
from slurmeval.processes import age_s
from slurmeval.progress import Progress
from slurmeval.staging.hub_client import HubClient, Listed, explained
from slurmeval.staging.hub_errors import Patience
from slurmeval.staging.manifest import Ledger, StagedFile, hashes
from slurmeval.staging.repository import Repository
from slurmeval.staging.transfer import megabytes, metered, need_room

DOWNLOADS_AT_ONCE = 4
ORPHAN_AGE_S = 600.0
"""A partial download that nobody has written to for this long was left by a killed process."""

Choose = Callable[[list[str], str], list[str]]
"""Of a repository's files those that are needed; the second argument begins its messages."""


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
    patience: Patience | None = None,
) -> Snapshot:
    """Downloads the files of one commit that `choose` picks and checks each against the hub's hash. Files
    that are there and unchanged are neither downloaded nor read; where all are, nothing is written. Raises
    UserError (missing, gated, no such revision, no room) or SlurmevalError (network, damaged files)."""
    with explained(what, repository):
        client = HubClient(what, repository, hf_home, patience or Patience(progress))
        commit, listing = client.listing()
        root = client.cache / repository.folder
        folder = root / "snapshots" / commit
        wanted = [listing[name] for name in choose(sorted(listing), what)]
        ledger_path = client.records / f"{commit}.ledger.json"
        ledger = Ledger(ledger_path)
        if missing_files(folder, wanted, ledger) or not (root / "refs" / "main").exists():
            with owned(client.records, what, progress):
                ledger = Ledger(ledger_path)  # of whoever was at it before
                missing = missing_files(folder, wanted, ledger)
                if missing:
                    _download_all(client, commit, missing, ledger, progress)
                _write_ref(root, commit)
        staged = [StagedFile(file.path, file.size, str(ledger.recorded(file.path))) for file in wanted]
    return Snapshot(folder, commit, staged)


def missing_files(folder: Path, wanted: list[Listed], ledger: Ledger) -> list[Listed]:
    """Those that are not in the snapshot, or were not verified as they are now."""

    def is_staged(file: Listed) -> bool:
        path = folder / file.path
        whole = path.is_file() and path.stat().st_size == file.size
        return whole and ledger.recall(folder, file.path) is not None

    return [file for file in wanted if not is_staged(file)]


def bytes_to_come(root: Path, commit: str, files: list[Listed]) -> int:
    """What has to be downloaded of these files: neither in the snapshot nor, from another commit, among the
    repository's blobs. `root`: the repository's folder in the cache."""
    to_come = {
        file.digest: file.size
        for file in files
        if not (root / "snapshots" / commit / file.path).exists()
        and not (root / "blobs" / file.digest).exists()
    }
    return sum(to_come.values())


def _download_all(
    client: HubClient, commit: str, files: list[Listed], ledger: Ledger, progress: Progress
) -> None:
    root = client.cache / client.repository.folder
    size = bytes_to_come(root, commit, files)
    need_room(client.what, client.cache.parent, size)
    progress(f"{client.what}: {len(files)} files, {megabytes(size)}")
    started = time.monotonic()
    root.mkdir(parents=True, exist_ok=True)
    _remove_orphans(client)
    with metered(client.what, root, progress, size), ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        try:
            # the largest first: the last thread then does not end alone
            ordered = sorted(files, key=lambda file: -file.size)
            futures = [
                pool.submit(_download_verified, client, commit, file, ledger, progress) for file in ordered
            ]
            for future in futures:
                future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            ledger.save()
    progress(f"{client.what}: {megabytes(size)}, {time.monotonic() - started:.0f} s")


def _download_verified(
    client: HubClient, commit: str, file: Listed, ledger: Ledger, progress: Progress
) -> None:
    folder = client.cache / client.repository.folder / "snapshots" / commit
    for again in (False, True):
        path = client.download(commit, file, again)
        if path.stat().st_size == file.size:
            sha256, digest = hashes(path, file.digest)
            if digest == file.digest:
                ledger.learn(folder, file.path, sha256)
                return
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        if not again:
            progress(f"{client.what}: {file.path} is damaged; downloading it once more")
    raise SlurmevalError(
        f"{client.what}: {file.path} came damaged twice: its hash is not the one that the hub lists"
    )


def _write_ref(root: Path, commit: str) -> None:
    """Offline, a load without a revision looks for `refs/main`; a download by commit does not write it."""
    create_exclusively(root / "refs" / "main", commit)


def _remove_orphans(client: HubClient) -> None:
    """Partial downloads of killed processes, which the client never looks at again; and the locks that it
    makes where the file system has none (they name their process, the others are empty): it waits for those
    without end, whatever has become of the process."""
    folder = client.repository.folder
    partial = (client.cache / folder / "blobs").glob("*.incomplete")
    locks = (file for file in (client.cache / ".locks" / folder).glob("*.lock") if file.stat().st_size)
    for file in (*partial, *locks):
        if age_s(file) > ORPHAN_AGE_S:
            file.unlink(missing_ok=True)
