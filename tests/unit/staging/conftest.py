"""A hub of this test alone, an empty HF_HOME, and what stages into it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.sources import Dataset, Weights
from slurmeval.staging.datasets import stage_dataset
from slurmeval.staging.models import stage_model
from slurmeval.state.manifest import Manifest
from tests.lacking import lacking
from tests.stand_ins.stand_in_hub import StandInHub, the_only_hub

MODEL = {
    "config.json": b'{"model_type": "tiny"}',
    "model.safetensors": os.urandom(300_000),
    "pytorch_model.bin": b"the same in another form",
    "tf_model.h5": b"and another",
    "tokenizer.json": b"{}",
    ".gitattributes": b"",
}
WANTED = ["config.json", "model.safetensors", "tokenizer.json"]


def share_blobs(hf_home: Path) -> None:
    """Lays the hub's cache out as its client may: blobs in one store for all repositories, links to it."""
    store = hf_home / "hub" / "blobs"
    store.mkdir()
    for blob in (hf_home / "hub").glob("*--*/blobs/*"):
        blob.rename(store / blob.name)
        blob.symlink_to(Path("../../blobs") / blob.name)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandInHub]:
    with the_only_hub(monkeypatch, tmp_path / "home") as running:
        yield running


@pytest.fixture
def hf_home(tmp_path: Path) -> Path:
    return tmp_path / "hf home ü"


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Makes a disk of a size such as "1m"; gives its folder."""
    made: list[Path] = []

    def do(size: str) -> Path:
        folder = tmp_path / f"disk {len(made)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            lacking("a small disk can only be made by root")
        made.append(folder)
        return folder

    yield do
    for folder in made:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def stage(hf_home: Path, tmp_path: Path, said: list[str]) -> Callable[..., Manifest]:
    """Stages a model or dataset `x` of the given source; the manifest goes to `tmp_path/x.json`."""

    def do(entry: Weights | Dataset) -> dict[str, Any]:
        goal, project = tmp_path / "x.json", tmp_path
        if isinstance(entry, Weights):
            return stage_model("x", entry, goal, hf_home, project, None, said.append)
        return stage_dataset("x", entry, goal, hf_home, project, said.append)

    return do
