"""MLflow: a file store with a run for each model. Written without MLflow's package, and tied to no folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import yaml

from slurmeval.results.exporting import tracked

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from slurmeval.results.exporting import Run

EXPERIMENT = "slurmeval"
_MAX_PARAM = 6000
"""Characters of a parameter's value, by MLflow's own limit."""
_ODD = re.compile(r"[^\w\-. :/]|(?<![^/])\.+(?![^/])", re.ASCII)
"""What MLflow allows in no name, and names of folders that are not below."""


def export(run: Run, folder: Path) -> Iterator[str]:
    """Writes `<experiment>/<run>` as MLflow's file store has them; the same results have the same run ids."""
    experiment = str(int(hashlib.sha256(EXPERIMENT.encode()).hexdigest(), 16) % 10**18)
    first, last = (f(row[name] for row in run.ended) for f, name in ((min, "started_at"), (max, "ended_at")))
    _write_yaml(
        folder / experiment / "meta.yaml",
        {"artifact_location": f"mlflow-artifacts:/{experiment}", "experiment_id": experiment}
        | {"name": EXPERIMENT, "lifecycle_stage": "active"}
        | {"creation_time": _ms(first), "last_update_time": _ms(last)},
    )
    for model, config, numbers in tracked(run):
        rows = [row for row in run.ended if row["model"] == model]
        started, ended = min(row["started_at"] for row in rows), max(row["ended_at"] for row in rows)
        identifier = hashlib.sha256(f"{model} {ended}".encode()).hexdigest()[:32]
        own = folder / experiment / identifier
        _write_yaml(
            own / "meta.yaml",
            {"run_id": identifier, "run_name": model, "experiment_id": experiment, "status": 3}
            | {"start_time": _ms(started), "end_time": _ms(ended), "lifecycle_stage": "active"}
            | {"artifact_uri": f"mlflow-artifacts:/{experiment}/{identifier}/artifacts"}
            | {"entry_point_name": "", "source_name": "", "source_type": 4, "source_version": ""}
            | {"tags": [], "user_id": ""},
        )
        _write_all(own / "metrics", {name: f"{_ms(ended)} {value!r} 0\n" for name, value in numbers.items()})
        _write_all(own / "params", dict(_parameters(config)))
        _write_all(own / "tags", {"mlflow.runName": model, "mlflow.source.name": "slurmeval"})
    yield "no samples and no parts of benchmarks: --to parquet has them"


def _parameters(config: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yields names and values: `<benchmark>/<setting>`, or the setting of the model."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}/{key}", str(each)[:_MAX_PARAM]) for key, each in value.items())
        elif value is not None:
            yield name, str(value)[:_MAX_PARAM]


def _write_all(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        file = folder / _ODD.sub("_", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _write_yaml(file: Path, value: Mapping[str, object]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(dict(value), allow_unicode=True), encoding="utf-8")


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)
