"""Provenance of the report: versions, git commit, staged models and datasets."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from slurmeval.engines.registry import find_engine
from slurmeval.evaluation import provenance
from slurmeval.files import sha256_of_file
from slurmeval.project_files import environment_lock
from slurmeval.state.manifest import Manifest
from slurmeval.state.records import read
from slurmeval.state.run_document import RunDocument
from slurmeval.state.runtime_records import ImageRecord

if TYPE_CHECKING:
    from slurmeval.config.models import Config
    from slurmeval.config.sources import Source


SHOWN_LABELS = (
    "org.opencontainers.image.version",
    "org.opencontainers.image.revision",
    "slurmeval.lock",
)
"""Labels of images that the report shows: those of the OCI image spec, and that of containers/*.def."""


@dataclass(frozen=True)
class RunInfo:
    """Provenance of a report. `versions` is by package, `locks` sha256 by lock, `images` digest by image."""

    generated_at: datetime
    versions: Mapping[str, str]
    locks: Mapping[str, str]
    images: Mapping[str, str]
    commit: str | None
    dirty: bool | None


def collect(run: RunDocument, config: Config) -> RunInfo:
    """Returns versions of this environment and of the servers' locks, images, and the project's git state."""
    project = run.project
    info = of_project(project)
    versions, locks = dict(info.versions), {}
    servers = (config.servers[model.server] for model in config.models.values())
    locks_of = {
        server.lock: server.engine for server in servers if server.image is None and server.url is None
    }
    for name, engine in sorted(locks_of.items()):
        lock = environment_lock(project, name)
        if lock.is_file():
            locks[name] = sha256_of_file(lock)
            package = re.escape(find_engine(engine, project).package)
            versions.update(re.findall(rf"^({package}[a-z-]*)==([^\s;\\]+)", lock.read_text(), re.MULTILINE))
    return replace(info, versions=versions, locks=locks, images=_images(run))


def of_project(project: Path) -> RunInfo:
    """Returns versions of this environment, and the git state of the project folder."""
    versions = {"python": platform.python_version()}
    for package in ("slurmeval", "snakemake", "submitit", "pyarrow"):
        versions[package] = metadata.version(package)
    return RunInfo(datetime.now(UTC), versions, {}, {}, *provenance.commit(project))


def _images(run: RunDocument) -> dict[str, str]:
    """Returns the digests of the images that servers and harnesses ran in, if they were pulled.

    What their labels say of version, revision and lock stands behind.
    """
    entries = [*run.models.values(), *run.benchmarks.values()]
    files = {entry.environment for entry in entries if entry.environment and entry.runtime == "image"}
    records = (read(file, ImageRecord) for file in sorted(files))
    return {record.id: _image_text(record) for record in records if record is not None}


def _image_text(record: ImageRecord) -> str:
    labels = record.labels
    told = [f"{name.rpartition('.')[2]} {labels[name]}" for name in SHOWN_LABELS if labels.get(name)]
    return ", ".join([record.digest or str(record.sif), *told])


@dataclass(frozen=True)
class StagedSource:
    """A model or a dataset as it was staged; one that is not staged has only what the config says."""

    kind: str
    """model or dataset."""
    id: str
    source: str
    revision: str | None
    n_files: int | None = None
    bytes: int | None = None
    sha256: str | None = None
    """Over all files."""


def staged(run: RunDocument, config: Config) -> list[StagedSource]:
    """Returns a run's models and datasets as they were staged."""
    models = [
        _staged("model", name, entry.manifest, config.models[name].source)
        for name, entry in run.models.items()
    ]
    return models + [
        _staged("dataset", name, manifest, config.datasets[name]) for name, manifest in run.datasets.items()
    ]


def _staged(kind: str, name: str, file: Path, source: Source) -> StagedSource:
    text, manifest = provenance.source_text(source.model_dump()), read(file, Manifest)
    if manifest is None:
        return StagedSource(kind, name, text, source.revision)
    revision = manifest.revision or source.revision
    return StagedSource(kind, name, text, revision, len(manifest.files), manifest.bytes, manifest.sha256)
