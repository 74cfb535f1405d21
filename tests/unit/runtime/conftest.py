"""Locks of small packages that are made here, so that environments are made with no network."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurmeval.runtime.indexes import pip_configuration
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


def folder_of(environments: Path, lock: Path) -> Path:
    return environments / f"{lock.stem}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
