"""Repositories of the Hugging Face hub, into HF_HOME in the hub's own cache layout, each file verified.

The hub's client checks no content, does not wait when the hub is busy, and writes no ref for a pinned commit
(docs/staging.md): this module does."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slurmeval.config.models import Commit
from slurmeval.errors import SlurmevalError
from slurmeval.files import create_exclusively, read_json, write_json
from slurmeval.runtime.making import Progress, owned
from slurmeval.staging.hub_errors import Patience, explain, token
from slurmeval.staging.manifest import Ledger, StagedFile, hash_both
from slurmeval.staging.transfer import megabytes, metered, need_room

DOWNLOADS_AT_ONCE = 4
ORPHAN_AGE_S = 600.0
"""A partial download that nobody has written to for this long was left by a killed process."""

Choose = Callable[[list[str], str], list[str]]


@dataclass(frozen=True)
class Repository:
    """What the config names."""

    kind: Literal["model", "dataset"]
    name: str
    revision: str

    @property
    def folder(self) -> str:
        """Its folder in the hub's cache."""
        return f"{self.kind}s--{self.name.replace('/', '--')}"


@dataclass(frozen=True)
class Listed:
    """A file as the hub lists it; `digest` is its sha256 (large files) or git's sha1 of the blob."""

    path: str
    size: int
    digest: str


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
    that are there and unchanged are neither downloaded nor read. Raises UserError (missing, gated,
    no such revision, no room) or SlurmevalError (network, damaged files)."""
    _prepare_client()
    from huggingface_hub.errors import HfHubHTTPError

    cache = hf_home / "hub"
    records = hf_home / "slurmeval" / "hub" / repository.folder
    client = _Client(what, repository, cache, patience or Patience(progress))
    try:
        commit, listing = client.listing(records)
        wanted = [file for name in choose(sorted(listing), what) for file in (listing[name],)]
        folder = cache / repository.folder / "snapshots" / commit
        with owned(records, what, progress):
            ledger = Ledger(records / f"{commit}.ledger.json")
            missing = [file for file in wanted if not _is_staged(folder, file, ledger)]
            size = sum(file.size for file in missing if not (folder / file.path).exists())
            need_room(what, hf_home, size)
            if missing:
                progress(f"{what}: {len(missing)} of {len(wanted)} files, {megabytes(size)}")
                started = time.monotonic()
                _download_all(client, commit, missing, ledger, progress, size)
                progress(f"{what}: {megabytes(size)}, {time.monotonic() - started:.0f} s")
            _write_ref(cache / repository.folder, commit)
            _remove_orphans(cache / repository.folder)
            staged = [StagedFile(f.path, f.size, str(ledger.recorded(f.path))) for f in wanted]
    except (
        HfHubHTTPError,
        OSError,
        HfHubHTTPError.__mro__[1],
    ) as error:  # the last: its HTTP library's errors
        raise explain(what, repository.kind, repository.name, repository.revision, error) from error
    return Snapshot(folder, commit, staged)


def _prepare_client() -> None:
    """Settings of the hub's client, which it reads when it is first imported."""
    os.environ.setdefault(
        "HF_HUB_DISABLE_SHARED_BLOBS", "1"
    )  # a snapshot must not point out of its repository
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    scratch = Path(tempfile.gettempdir()) / f"slurmeval-xet-{os.getuid()}"
    os.environ.setdefault("HF_XET_CACHE", str(scratch))  # it fails on network file systems


class _Client:
    """The hub, as one staging asks it."""

    def __init__(self, what: str, repository: Repository, cache: Path, patience: Patience) -> None:
        self.what, self.repository, self.cache, self.patience = what, repository, cache, patience
        self.endpoint = os.environ.get("HF_ENDPOINT") or None
        self.token = token(cache.parent) or False

    def listing(self, records: Path) -> tuple[str, dict[str, Listed]]:
        """The commit that the revision names, and its files. A commit that was listed before is not asked for
        again: it cannot have changed."""
        revision = self.repository.revision
        if Commit.match(revision):
            try:
                known = read_json(records / f"{revision}.json")
            except ValueError:
                known = None
            if known is not None:
                return revision, {path: Listed(path, size, digest) for path, size, digest in known}
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.endpoint, token=self.token)
        info = self.patience.call(
            self.what,
            lambda: api.repo_info(
                self.repository.name, revision=revision, repo_type=self.repository.kind, files_metadata=True
            ),
        )
        listing = {sibling.rfilename: _listed(sibling) for sibling in info.siblings}
        rows = [[file.path, file.size, file.digest] for file in listing.values()]
        write_json(records / f"{info.sha}.json", rows)
        return str(info.sha), listing

    def download(self, commit: str, file: Listed, again: bool) -> Path:
        from huggingface_hub import hf_hub_download

        return self.patience.call(
            self.what,
            lambda: Path(
                hf_hub_download(
                    self.repository.name,
                    file.path,
                    repo_type=self.repository.kind,
                    revision=commit,
                    cache_dir=self.cache,
                    endpoint=self.endpoint,
                    token=self.token,
                    force_download=again,
                )
            ),
        )


def _listed(sibling: Any) -> Listed:
    lfs = sibling.lfs
    return Listed(sibling.rfilename, int(sibling.size), str(lfs.sha256 if lfs else sibling.blob_id))


def _is_staged(folder: Path, file: Listed, ledger: Ledger) -> bool:
    path = folder / file.path
    return (
        path.is_file() and path.stat().st_size == file.size and ledger.recall(folder, file.path) is not None
    )


def _download_all(
    client: _Client, commit: str, files: list[Listed], ledger: Ledger, progress: Progress, size: int
) -> None:
    root = client.cache / client.repository.folder
    root.mkdir(parents=True, exist_ok=True)
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


def _download_verified(
    client: _Client, commit: str, file: Listed, ledger: Ledger, progress: Progress
) -> None:
    folder = client.cache / client.repository.folder / "snapshots" / commit
    for again in (False, True):
        path = client.download(commit, file, again)
        sha256, git = hash_both(path)
        if path.stat().st_size == file.size and file.digest in (sha256, git):
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


def _remove_orphans(root: Path) -> None:
    for partial in (root / "blobs").glob("*.incomplete"):
        if time.time() - partial.stat().st_mtime > ORPHAN_AGE_S:
            partial.unlink(missing_ok=True)
