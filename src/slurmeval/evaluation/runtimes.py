"""Where the harness of an evaluation runs, as its document says."""

from __future__ import annotations

from slurmeval.config.of_run import site_of
from slurmeval.containers.apptainer import Apptainer
from slurmeval.harnesses.runtimes import EnvironmentRuntime, ImageRuntime, Runtime
from slurmeval.state.records import load
from slurmeval.state.run_document import RunDocument
from slurmeval.state.runtime_records import EnvironmentRecord, ImageRecord


def apptainer_of(run: RunDocument) -> Apptainer:
    """How containers are run at the site of this run. Raises UserError where they cannot be."""
    site = site_of(run)
    return Apptainer.find(None if site is None else site.containers)


def runtime_of(run: RunDocument, benchmark: str) -> Runtime:
    """The harness's, made or pulled before. Raises UserError where there is no Apptainer for an image."""
    entry = run.benchmarks[benchmark]
    if entry.runtime == "image":
        return ImageRuntime(load(entry.environment, ImageRecord), apptainer_of(run))
    return EnvironmentRuntime(load(entry.environment, EnvironmentRecord).folder)
