"""What servers and harnesses run in, as a run plans it: locked environments and images, none made yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from slurmeval.config.models import Benchmark, Config, Model
from slurmeval.config.site import Site
from slurmeval.containers.images import Image
from slurmeval.containers.images import read_lock as read_images
from slurmeval.engines.base import Engine
from slurmeval.engines.registry import find_engine
from slurmeval.environments.locks import Lock, read_lock
from slurmeval.errors import UserError
from slurmeval.files import sha256_of_json
from slurmeval.harnesses import harness
from slurmeval.paths import Paths
from slurmeval.project_files import IMAGES_LOCK, environment_lock, images_file

KEY = 8
"""Hex digits of the hashes in names."""


@dataclass(frozen=True)
class RuntimeRef:
    """A locked environment or an image."""

    kind: Literal["environment", "image"]
    name: str
    sha256: str
    """Of the lock's content, or the image's digest: names all that is in it."""
    record: Path
    """Written once it is made; says where it is."""
    lock: Lock | None = None
    image: Image | None = None
    given: str | None = None
    """The file of an image that is on the cluster already."""

    @property
    def versions(self) -> dict[str, str]:
        """All that alters what runs here: the image's digest, or the hash of all of the lock's packages."""
        return {"image": self.sha256} if self.lock is None else {"packages": self.lock.packages_sha256}

    def versions_of(self, engine: Engine) -> dict[str, str]:
        """Returns what alters a model's answers, and the versions that a reader looks for."""
        packages = {} if self.lock is None else self.lock.packages
        return engine.versions(packages) | self.versions


@dataclass
class RuntimeRefs:
    """Those of a config. Raises UserError where a lock is missing or no lock, or an image is unknown."""

    config: Config
    project: Path
    paths: Paths
    site: Site | None = None
    _found: dict[tuple[str, str], RuntimeRef] = field(default_factory=dict)

    def of_server(self, model: Model) -> RuntimeRef | None:
        """What a model's server runs in; None where it is there already."""
        server = self.config.servers[model.server]
        if server.url is not None:
            return None
        if server.image is not None:
            return self.ref("image", server.image)
        found = self.ref("environment", server.lock)
        engine = find_engine(server.engine_name, self.project)
        if found.lock is not None and not engine.is_among(found.lock.packages):
            raise UserError(
                f"servers.{model.server}.environment: {found.lock.path} has no {engine.package}, and so says "
                f"no version of {engine.name} by which answers could be kept"
            )
        return found

    def of_harness(self, benchmark: Benchmark) -> RuntimeRef:
        """Returns what a benchmark's harness runs in."""
        name = harness(benchmark.harness).environments(benchmark)
        return self.ref(benchmark.runtime or self.config.harness_runtime, name)

    def ref(self, kind: Literal["environment", "image"], name: str) -> RuntimeRef:
        """Returns an environment or image by its name."""
        if (kind, name) not in self._found:
            made = self._environment(name) if kind == "environment" else self._image(name)
            self._found[kind, name] = made
        return self._found[kind, name]

    def lock_file(self, environment: str) -> Path:
        """Returns the lock of an environment."""
        return environment_lock(self.project, environment)

    def _environment(self, name: str) -> RuntimeRef:
        lock = read_lock(self.lock_file(name))
        record = self.paths.environment_record(name, lock.sha256[:KEY])
        return RuntimeRef("environment", name, lock.sha256, record, lock)

    def _image(self, name: str) -> RuntimeRef:
        given = self._given.get(name)
        image = self._images.get(name)
        if given is not None:
            digest = sha256_of_json([given, None if image is None else image.digest])
            return RuntimeRef(
                "image", name, digest, self.paths.image_record(name, digest[:KEY]), None, image, given
            )
        if image is None:
            raise UserError(
                f"image {name}: not in {self._lock}; `slurmeval images lock {name}` puts it there, or "
                "containers.images of site.yaml names its file"
            )
        digest = image.digest.removeprefix("sha256:")
        return RuntimeRef("image", name, digest, self.paths.image_record(name, digest[:KEY]), None, image)

    @property
    def _lock(self) -> Path:
        return images_file(self.project, IMAGES_LOCK)

    @cached_property
    def _images(self) -> dict[str, Image]:
        return read_images(self._lock) if self._lock.exists() else {}

    @property
    def _given(self) -> Mapping[str, str]:
        return {} if self.site is None else self.site.containers.images
