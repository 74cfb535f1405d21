"""Room for all that is still to be staged, looked at before the first download."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from slurmeval.config.models import Dataset, Weights
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.progress import Progress
from slurmeval.staging.datasets import choose_dataset_files
from slurmeval.staging.hub import Choose, bytes_to_come
from slurmeval.staging.hub_client import HubClient, explained
from slurmeval.staging.hub_errors import Patience
from slurmeval.staging.hub_lock import HubLock
from slurmeval.staging.models import choose_model_files
from slurmeval.staging.repository import Repository
from slurmeval.staging.transfer import megabytes, need_room

ASKED_AT_ONCE = 16
NAMED = 3
"""The largest items that a message names."""


@dataclass(frozen=True)
class Wanted:
    """A model or dataset that comes from the hub."""

    what: str
    repository: Repository
    choose: Choose


def wanted(models: Mapping[str, Weights], datasets: Mapping[str, Dataset], lock: HubLock) -> list[Wanted]:
    """Those of the models and datasets, by id, that come from the hub; branches at their locked commits."""
    found: list[Wanted] = []
    for identifier, weights in models.items():
        if (repository := Repository.of(weights)) is not None:
            repository = lock.pinned(repository) or repository
            found.append(Wanted(f"model {identifier}", repository, choose_model_files))
    for identifier, dataset in datasets.items():
        if (repository := Repository.of(dataset)) is not None:
            choose = partial(_choose, dataset)
            found.append(Wanted(f"dataset {identifier}", lock.pinned(repository) or repository, choose))
    return found


def _choose(dataset: Dataset, names: list[str], what: str) -> list[str]:
    return choose_dataset_files(names, dataset.files, what)


def needed(items: Iterable[Wanted], hf_home: Path, progress: Progress) -> dict[str, int]:
    """Bytes that are still to be downloaded, by the first item that wants them: what several share counts
    once. Asks the hub once for each commit that it has never listed. What it does not answer is left out:
    staging says why."""
    sharing: dict[Repository, list[Wanted]] = {}
    for item in items:
        sharing.setdefault(item.repository, []).append(item)

    def size(repository: Repository) -> int:
        what = sharing[repository][0].what
        try:
            with explained(what, repository):
                client = HubClient(what, repository, hf_home, Patience(progress, tries=1))
                commit, listing = client.listing()
        except SlurmevalError:
            return 0
        chosen: set[str] = set()
        for item in sharing[repository]:
            with contextlib.suppress(UserError):  # files that are not there: staging says so
                chosen |= set(item.choose(sorted(listing), item.what))
        return bytes_to_come(repository.cache(hf_home), commit, [listing[name] for name in chosen])

    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        sizes = zip(sharing, pool.map(size, sharing), strict=True)
        return {sharing[repository][0].what: found for repository, found in sizes if found}


def need_room_for_all(items: Iterable[Wanted], hf_home: Path, progress: Progress) -> int:
    """The bytes that are still to be downloaded. Raises UserError unless all of them fit."""
    sizes = needed(items, hf_home, progress)
    largest = sorted(sizes, key=lambda what: -sizes[what])
    names = ", ".join(f"{what} {megabytes(sizes[what])}" for what in largest[:NAMED])
    rest = f" and {len(largest) - NAMED} more" if len(largest) > NAMED else ""
    total = sum(sizes.values())
    if total:
        need_room(f"staging {names}{rest}", hf_home, total)
    return total
