"""Whole run documents, of which a test says what matters to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from slurmeval.config.models import Config
from slurmeval.paths import Paths
from slurmeval.state.run_document import BenchmarkEntry, ModelEntry, RunDocument
from slurmeval.state.server_spec import ServerSpec

NOWHERE = Path("/nowhere")


def config_for(models: Iterable[str], benchmarks: Iterable[str], /, **more: Any) -> Config:
    """A config of these models and benchmarks."""
    return Config.model_validate(
        {
            "version": 1,
            "models": {name: {"weights": {"folder": "/weights"}, "server": "s"} for name in models},
            "servers": {"s": {}},
            "benchmarks": {name: {"harness": "lm-eval", "task": "toy"} for name in benchmarks},
            "evaluate": {"benchmarks": list(benchmarks)},
            **more,
        }
    )


def model_entry(paths: Paths, model: str, **more: Any) -> ModelEntry:
    """A model with one replica."""
    spec = dict.fromkeys(("served_name", "weights", "manifest", "python", "slots"), "")
    spec |= {"servers": str(paths.servers_of(model)), "leases": str(paths.leases / model)}
    given: dict[str, Any] = {
        "answers_key": "a" * 64,
        "params": {},
        "manifest": NOWHERE,
        "runtime": "environment",
        "environment": NOWHERE,
        "serving": ServerSpec(model=model, controller=str(paths.controller), **spec),
        "replicas": 1,
        "parallelism": 8,
        "job_names": [f"serve-{model}"],
    }
    return ModelEntry(**given | more)


def benchmark_entry(**more: Any) -> BenchmarkEntry:
    """A benchmark in an environment."""
    given: dict[str, Any] = {
        "runtime": "environment",
        "environment": NOWHERE,
        "environment_sha256": "00",
        "rehearsal": NOWHERE,
        "rehearsal_key": "key",
        "versions": {},
        "results_key": "b" * 64,
        "time_limit_min": 30,
    }
    return BenchmarkEntry(**given | more)


def run_document(
    paths: Paths, models: Mapping[str, ModelEntry], benchmarks: Mapping[str, BenchmarkEntry], **more: Any
) -> RunDocument:
    """A run of every benchmark on every model, on one machine."""
    given: dict[str, Any] = {
        "project": paths.results.parent,
        "paths": paths,
        "config": config_for(models, benchmarks).model_dump(mode="json"),
        "site": None,
        "evaluations": [(model, benchmark) for model in models for benchmark in benchmarks],
        "order": [*models],
        "tokenizer_model": next(iter(models), ""),
        "models": dict(models),
        "datasets": {},
        "benchmarks": dict(benchmarks),
    }
    return RunDocument(**given | more)
