"""Locks of small packages and images that are made here, so that all is made with no network."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurmeval.environments.indexes import pip_configuration
from tests.stand_ins import stand_in_apptainer
from tests.stand_ins.stand_in_registry import StandInRegistry
from tests.stand_ins.wheels import build_wheel


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of wheels that pip's configuration names as the only place for packages."""
    folder = tmp_path / "a place" / "wheels"
    build_wheel(folder, "apple", "1.0", "VERSION = '1.0'\ndef main():\n    print('apple runs')\n")
    build_wheel(folder, "pear", "2.1")
    for variable in ("UV_FIND_LINKS", "UV_EXTRA_INDEX_URL", "UV_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", folder.as_uri())
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv cache"))
    pip_configuration.cache_clear()
    yield folder
    pip_configuration.cache_clear()


@pytest.fixture
def make_lock(tmp_path: Path) -> Callable[..., Path]:
    """Writes a lock: the lines, and the name."""

    def make(*lines: str, name: str = "fruit") -> Path:
        lock = tmp_path / "locks" / f"{name}.lock"
        lock.parent.mkdir(exist_ok=True)
        lock.write_text("\n".join(lines) + "\n")
        return lock

    return make


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInRegistry]:
    """An empty registry, and no login for any."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "localhost")
    monkeypatch.setenv("APPTAINER_NOHTTPS", "true")
    for name in ("APPTAINER_DOCKER_USERNAME", "APPTAINER_DOCKER_PASSWORD", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    with StandInRegistry() as running:
        yield running


@pytest.fixture
def programs(amd64: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the stand-in for Apptainer, first on PATH."""
    folder = tmp_path / "programs"
    stand_in_apptainer.write_program(folder)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def folder_of(environments: Path, lock: Path) -> Path:
    return environments / f"{lock.stem}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
