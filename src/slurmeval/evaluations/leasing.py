"""Taking a lease for an evaluation of a run. Every evaluation starts a process to do it, so what this module
imports is light."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slurmeval.errors import ServerFailed, SlurmevalError
from slurmeval.evaluations.failures import no_server, record
from slurmeval.files import read_json
from slurmeval.paths import Paths
from slurmeval.servers import leases


def lease(run: dict[str, Any], model: str, benchmark: str) -> None:
    """Holds the lease of an evaluation: takes it, or leaves the one that holds as it is. Raises ServerFailed
    where this run's server failed for good, SlurmevalError where no run is under way."""
    entry = run["models"][model]
    spec = {
        **entry["serving"],
        "weights": read_json(Path(entry["manifest"]))["folder"],
        "python": read_json(Path(entry["environment"]))["python"],
    }
    controller = read_json(Path(spec["controller"]))
    if controller is None:
        raise SlurmevalError("no run is under way here: leases are taken for Snakemake's jobs")
    if not leases.holds(spec, benchmark, controller):
        leases.acquire(spec, benchmark, controller)


def lease_or_record(run: dict[str, Any], model: str, benchmark: str) -> None:
    """`lease`, for the rule: where there is no server to be had, the evaluation will not start, so its
    failure is recorded here. Raises EvaluationFailed then."""
    started_at = datetime.now(UTC)
    try:
        lease(run, model, benchmark)
    except ServerFailed as error:
        failure = no_server(error)
        record(Paths.of(run["paths"]).failure(model, benchmark), failure, model, benchmark, started_at, None)
        raise failure from error
