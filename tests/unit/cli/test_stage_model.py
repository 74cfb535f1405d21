"""The rule's command that stages a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slurmeval.cli import main
from slurmeval.paths import Paths
from slurmeval.state.manifest import Manifest
from slurmeval.state.records import load, write
from slurmeval.state.runtime_records import EnvironmentRecord, ImageRecord
from tests.run_documents import benchmark_entry, config_for, model_entry, run_document


@pytest.mark.parametrize("runtime", ["environment", "image"])
def test_a_model_is_staged_whatever_its_server_runs_in(tmp_path: Path, runtime: str) -> None:
    weights, record = tmp_path / "weights", tmp_path / "record.json"
    weights.mkdir()
    (weights / "config.json").write_text(json.dumps({"max_position_embeddings": 64}))
    (weights / "model.safetensors").write_bytes(b"weights")
    if runtime == "image":
        write(record, ImageRecord(id="vllm", sif=tmp_path / "v.sif", size=1, mtime_ns=1, sha256=""))
    else:
        write(record, EnvironmentRecord(folder=tmp_path, python=tmp_path / "python"))
    paths = Paths(*(tmp_path / name for name in ("results", "environments", "hf", "images")))
    models = {"m": model_entry(paths, "m", runtime=runtime, environment=record)}
    config = config_for(models, ["b"], models={"m": {"weights": {"folder": str(weights)}, "server": "s"}})
    run = run_document(paths, models, {"b": benchmark_entry()}, config=config.model_dump(mode="json"))
    write(tmp_path / "run.json", run)
    assert main.run(["stage-model", str(tmp_path / "run.json"), "m", str(tmp_path / "m.json")]) == 0
    assert load(tmp_path / "m.json", Manifest).folder == weights
