"""A model's replicas in a run: their specs, and where their leases lie. Light, since every lease imports it.

Replica r is a *track*: it has servers and leases of its own (`state/servers/<model>@<r>`,
`leases/<model>@<r>`; without `@` for the first), and the lease protocol runs in each unchanged."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slurmeval.errors import SlurmevalError
from slurmeval.files import read_json
from slurmeval.paths import Paths


@functools.lru_cache(maxsize=256)
def _staged(file: Path, modified_ns: int) -> Any:
    return read_json(file)


def _read(file: str) -> Any:
    """A file that `stage` or `environment` made; cached for as long as it stays as it is."""
    path = Path(file)
    return _staged(path, path.stat().st_mtime_ns)


def tracks(run: dict[str, Any], model: str) -> list[dict[str, Any]]:
    """The specs of a model's replicas: ServerSpec as JSON."""
    entry = run["models"][model]
    first = {**entry["serving"], "weights": _read(entry["manifest"])["folder"]}
    made = _read(entry["environment"])
    if entry["runtime"] == "image":
        first |= {"python": made["programs"]["python3"], "image": made["sif"]}
    else:
        first["python"] = made["python"]
    specs = []
    for replica in range(1, entry["replicas"] + 1):
        spec = {**first, "replica": replica}
        if replica > 1:
            spec |= {place: f"{first[place]}@{replica}" for place in ("servers", "leases")}
            spec["inside"] = None
        specs.append(spec)
    return specs


def lease_files(run: dict[str, Any], model: str, benchmark: str) -> list[Path]:
    """The evaluation's leases, one for each replica."""
    leases_of = run["models"][model]["serving"]["leases"]
    replicas = run["models"][model]["replicas"]
    folders = [leases_of, *(f"{leases_of}@{r}" for r in range(2, replicas + 1))]
    return [Path(folder) / f"{benchmark}.json" for folder in folders]


def held(run: dict[str, Any], model: str, benchmark: str) -> Iterator[dict[str, Any]]:
    """The leases that are not released."""
    for file in lease_files(run, model, benchmark):
        lease = read_json(file)
        if lease is not None and not lease["released"] and lease["server"] is not None:
            yield lease


def claim_of(run: dict[str, Any], model: str, benchmark: str) -> Path:
    """The file by which the evaluation claims to run."""
    return Paths.of(run["paths"]).claim(model, benchmark, run["models"][model]["answers_key"])


def controller_of(run: dict[str, Any]) -> dict[str, Any]:
    """Who runs this run. Raises SlurmevalError where nobody does."""
    controller: dict[str, Any] | None = read_json(Paths.of(run["paths"]).controller)
    if controller is None:
        raise SlurmevalError("no run is under way here: leases are taken for Snakemake's jobs")
    return controller
