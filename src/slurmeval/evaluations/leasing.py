"""Taking a lease for an evaluation of a run. Every evaluation starts a process to do it, so what this module
imports is light."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slurmeval.errors import SlurmevalError
from slurmeval.files import read_json
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
