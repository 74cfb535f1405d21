"""Where the harness of an evaluation runs, as the run document says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slurmeval.config.site import Containers
from slurmeval.containers.apptainer import Apptainer
from slurmeval.files import read_json
from slurmeval.harnesses.runtimes import EnvironmentRuntime, ImageRuntime, Runtime


def apptainer_of(run: dict[str, Any]) -> Apptainer:
    """How containers are run at the site of this run. Raises UserError where they cannot be."""
    site = run["site"]
    return Apptainer.find(None if site is None else Containers.model_validate(site["containers"]))


def runtime_of(run: dict[str, Any], benchmark: str) -> Runtime:
    """The harness's, made or pulled before. Raises UserError where there is no Apptainer for an image."""
    entry = run["benchmarks"][benchmark]
    record = read_json(Path(entry["environment"]))
    if entry["runtime"] == "image":
        return ImageRuntime(record, apptainer_of(run))
    return EnvironmentRuntime(Path(record["folder"]))
