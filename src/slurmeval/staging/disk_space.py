"""Disk space for all that is still to be staged, checked before the first download."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from slurmeval.config.sources import Dataset, Tokenizer, Weights
from slurmeval.disk import require_space
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.progress import Progress, size_text
from slurmeval.staging.datasets import choose_dataset_files
from slurmeval.staging.hub import Choose, missing_bytes
from slurmeval.staging.hub_client import HubClient, explained
from slurmeval.staging.hub_errors import HubRetries
from slurmeval.staging.hub_lock import HubLock
from slurmeval.staging.models import chooser
from slurmeval.staging.repository import REMEDY, Repository

CONCURRENT_REQUESTS = 16
NAMED_LIMIT = 3
"""The largest items that a message names."""


@dataclass(frozen=True)
class HubItem:
    """A model or dataset that comes from the hub."""

    what: str
    repository: Repository
    choose: Choose


def hub_items(
    models: Mapping[str, Weights | Tokenizer], datasets: Mapping[str, Dataset], lock: HubLock
) -> list[HubItem]:
    """Returns the models and datasets, by id, that come from the hub; branches at their locked commits."""
    found: list[HubItem] = []
    for identifier, wanted in models.items():
        if (repository := Repository.of(wanted)) is not None:
            repository = lock.pinned(repository) or repository
            found.append(HubItem(f"model {identifier}", repository, chooser(wanted)))
    for identifier, dataset in datasets.items():
        if (repository := Repository.of(dataset)) is not None:
            choose = partial(_choose, dataset)
            found.append(HubItem(f"dataset {identifier}", lock.pinned(repository) or repository, choose))
    return found


def _choose(dataset: Dataset, names: list[str], what: str) -> list[str]:
    return choose_dataset_files(names, dataset.files, what)


def bytes_to_download(items: Iterable[HubItem], hf_home: Path, progress: Progress) -> dict[str, int]:
    """Returns the bytes that are still to be downloaded, by the first item that needs them.

    What several items share counts once. The hub is asked once for each commit that was never listed. What
    it does not answer is left out: staging says why.
    """
    sharing: dict[Repository, list[HubItem]] = {}
    for item in items:
        sharing.setdefault(item.repository, []).append(item)

    def size(repository: Repository) -> int:
        what = sharing[repository][0].what
        try:
            with explained(what, repository):
                client = HubClient(what, repository, hf_home, HubRetries(progress, attempts=1))
                commit, listing = client.listing()
        except SlurmevalError:
            return 0
        chosen: set[str] = set()
        for item in sharing[repository]:
            with contextlib.suppress(UserError):  # files that are not there: staging says so
                chosen |= set(item.choose(sorted(listing), item.what))
        return missing_bytes(repository.cache(hf_home), commit, [listing[name] for name in chosen])

    with ThreadPoolExecutor(CONCURRENT_REQUESTS) as pool:
        sizes = zip(sharing, pool.map(size, sharing), strict=True)
        return {sharing[repository][0].what: found for repository, found in sizes if found}


def require_space_for_all(items: Iterable[HubItem], hf_home: Path, progress: Progress) -> int:
    """Returns the bytes that are still to be downloaded. Raises UserError unless all of them fit."""
    sizes = bytes_to_download(items, hf_home, progress)
    largest = sorted(sizes, key=lambda what: -sizes[what])
    names = ", ".join(f"{what} {size_text(sizes[what])}" for what in largest[:NAMED_LIMIT])
    rest = f" and {len(largest) - NAMED_LIMIT} more" if len(largest) > NAMED_LIMIT else ""
    total = sum(sizes.values())
    if total:
        require_space(f"staging {names}{rest}", hf_home, total, REMEDY)
    return total
