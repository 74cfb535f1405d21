"""Where the harness of an evaluation runs, as its document says."""

from __future__ import annotations

from pathlib import Path

from slurmeval.config.of_run import site_of
from slurmeval.containers.apptainer import Apptainer
from slurmeval.files import read_json
from slurmeval.harnesses.runtimes import EnvironmentRuntime, ImageRuntime, Runtime
from slurmeval.state.run_document import RunDocument


def apptainer_of(run: RunDocument) -> Apptainer:
    """How containers are run at the site of this run. Raises UserError where they cannot be."""
    site = site_of(run)
    return Apptainer.find(None if site is None else site.containers)


def runtime_of(run: RunDocument, benchmark: str) -> Runtime:
    """The harness's, made or pulled before. Raises UserError where there is no Apptainer for an image."""
    entry = run.benchmarks[benchmark]
    record = read_json(entry.environment)
    if entry.runtime == "image":
        return ImageRuntime(record, apptainer_of(run))
    return EnvironmentRuntime(Path(record["folder"]))
