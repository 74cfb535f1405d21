"""The config that a run's document has."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from pydantic import ValidationError

from slurmeval.config.of_run import config_of
from slurmeval.paths import Paths
from tests.run_documents import benchmark_entry, model_entry, run_document


def test_keys_that_there_were_once_do_not_hide_an_earlier_run(tmp_path: Path) -> None:
    paths = Paths(*(tmp_path / name for name in ("results", "e", "h", "i")))
    run = run_document(paths, {"m": model_entry(paths, "m")}, {"b": benchmark_entry()})
    config = config_of(run)
    recorded = config.model_dump(mode="json")
    recorded["servers"]["s"]["max_restarts"] = 3
    recorded["gone"] = {"a": 1}
    assert config_of(dataclasses.replace(run, config=recorded)) == config
    assert recorded["gone"] == {"a": 1}
    recorded["servers"]["s"]["gpus"] = "many"
    with pytest.raises(ValidationError, match="gpus"):
        config_of(dataclasses.replace(run, config=recorded))
