"""The hub's client, as staging uses it: which commit a revision names, what files it has, one file of it.

Not all of the client's calls wait while the hub is busy: they go through `HubRetries`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurmeval.files import read_json, write_json
from slurmeval.staging.hub_errors import HubRetries, explain, token
from slurmeval.staging.repository import Repository


@dataclass(frozen=True)
class Listed:
    """A file as the hub lists it. `digest` is its sha256 (large files) or git's sha1 of the blob."""

    path: str
    size: int
    digest: str


def prepare_client() -> None:
    """Sets variables of the hub's client, which it reads when it is first imported."""
    os.environ.setdefault(
        "HF_HUB_DISABLE_SHARED_BLOBS", "1"
    )  # a snapshot must not point out of its repository
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    scratch = Path(tempfile.gettempdir()) / f"slurmeval-xet-{os.getuid()}"
    os.environ.setdefault("HF_XET_CACHE", str(scratch))  # it fails on network file systems
    # Else it keeps up to 10 GB of what it fetches there, and /tmp is small on login nodes
    os.environ.setdefault("HF_XET_CHUNK_CACHE_SIZE_BYTES", "0")


@contextmanager
def explained(what: str, repository: Repository) -> Iterator[None]:
    """Turns what the hub's client raises into one line: UserError or SlurmevalError."""
    prepare_client()
    from huggingface_hub.errors import HfHubHTTPError

    transport = HfHubHTTPError.__mro__[1]  # the base of all errors of the client's HTTP library
    try:
        yield
    except (HfHubHTTPError, OSError, transport) as error:
        raise explain(what, repository, error) from error


class HubClient:
    """The hub, as one staging asks it."""

    def __init__(self, what: str, repository: Repository, hf_home: Path, retries: HubRetries) -> None:
        """Asks nobody yet. `what` begins the messages."""
        prepare_client()
        self.what, self.repository, self.retries = what, repository, retries
        self.cache, self.records = hf_home / "hub", repository.records(hf_home)
        self.endpoint = os.environ.get("HF_ENDPOINT") or None
        self.token = token(hf_home) or False

    def commit(self) -> str:
        """Returns the commit that the revision names now."""
        return str(self._info(files=False).sha)

    def listing(self) -> tuple[str, dict[str, Listed]]:
        """Returns the commit that the revision names, and its files.

        A commit that was listed before is not asked for again: it cannot have changed.
        """
        if (known := known_listing(self.repository, self.cache.parent)) is not None:
            return self.repository.revision, known
        info = self._info(files=True)
        listing = {sibling.rfilename: _listed(sibling) for sibling in info.siblings}
        rows = [[file.path, file.size, file.digest] for file in listing.values()]
        write_json(self.records / f"{info.sha}.json", rows)
        return str(info.sha), listing

    def _info(self, files: bool) -> Any:
        from huggingface_hub import HfApi

        api, asked = HfApi(endpoint=self.endpoint, token=self.token), self.repository
        return self.retries.call(
            self.what,
            lambda: api.repo_info(
                asked.name, revision=asked.revision, repo_type=asked.kind, files_metadata=files
            ),
        )

    def download(self, commit: str, file: Listed, again: bool) -> Path:
        """Returns the file in the hub's cache. What is there is taken as it is, unless `again`."""
        from huggingface_hub import hf_hub_download

        return self.retries.call(
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


def known_listing(repository: Repository, hf_home: Path) -> dict[str, Listed] | None:
    """Returns the files of a commit that was listed before; None for another, and for a branch."""
    if not repository.is_commit:
        return None
    try:
        known = read_json(repository.records(hf_home) / f"{repository.revision}.json")
    except ValueError:
        return None
    return None if known is None else {path: Listed(path, size, digest) for path, size, digest in known}


def _listed(sibling: Any) -> Listed:
    lfs = sibling.lfs
    return Listed(sibling.rfilename, int(sibling.size), str(lfs.sha256 if lfs else sibling.blob_id))
