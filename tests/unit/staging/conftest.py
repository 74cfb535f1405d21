"""A hub of this test alone, an empty HF_HOME, and what stages into it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.models import Dataset, Weights
from slurmeval.staging.datasets import stage_dataset
from slurmeval.staging.models import stage_model
from tests.stand_ins.stand_in_hub import StandInHub

MODEL = {
    "config.json": b'{"model_type": "tiny"}',
    "model.safetensors": os.urandom(300_000),
    "pytorch_model.bin": b"the same in another form",
    "tf_model.h5": b"and another",
    "tokenizer.json": b"{}",
    ".gitattributes": b"",
}
WANTED = ["config.json", "model.safetensors", "tokenizer.json"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandInHub]:
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with StandInHub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def hf_home(tmp_path: Path) -> Path:
    return tmp_path / "hf home ü"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def stage(hf_home: Path, tmp_path: Path, said: list[str]) -> Callable[..., dict[str, Any]]:
    """Stages a model or dataset `x` of the given source; the manifest goes to `tmp_path/x.json`."""

    def do(entry: Weights | Dataset) -> dict[str, Any]:
        goal, project = tmp_path / "x.json", tmp_path
        if isinstance(entry, Weights):
            return stage_model("x", entry, goal, hf_home, project, None, said.append)
        return stage_dataset("x", entry, goal, hf_home, project, said.append)

    return do
