"""A model's replicas in a run: their specs, and where their leases lie. Light, since every lease imports it.

Replica r has servers and leases of its own (`state/servers/<model>@<r>`,
`leases/<model>@<r>`; without `@` for the first), and the lease protocol runs in each unchanged.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from slurmeval.errors import SlurmevalError
from slurmeval.servers.folder import ServerFolder
from slurmeval.state.lease import Lease
from slurmeval.state.manifest import Manifest
from slurmeval.state.owner import Owner
from slurmeval.state.records import load, read
from slurmeval.state.run_document import RunDocument
from slurmeval.state.runtime_records import EnvironmentRecord, ImageRecord
from slurmeval.state.server import ServerState
from slurmeval.state.server_spec import ServerSpec

T = TypeVar("T")


@functools.lru_cache(maxsize=256)
def _loaded(path: Path, modified_ns: int, record: type[Any]) -> Any:
    return load(path, record)


def _made(path: Path, record: type[T]) -> T:
    """Returns what `stage` or `environment` wrote; cached for as long as the file stays as it is."""
    made: T = _loaded(path, path.stat().st_mtime_ns, cast(Any, record))
    return made


def replica_specs(run: RunDocument, model: str) -> list[ServerSpec]:
    """Returns the specs of a model's replicas."""
    entry = run.models[model]
    first = replace(entry.serving, weights=str(_made(entry.manifest, Manifest).folder))
    if entry.environment is None:  # the server is there already, and our own Python passes requests on
        first = replace(first, python=sys.executable)
    elif entry.runtime == "image":
        made = _made(entry.environment, ImageRecord)
        first = replace(first, python=made.programs["python3"], image=str(made.sif))
    else:
        first = replace(first, python=str(_made(entry.environment, EnvironmentRecord).python))
    specs = [first]
    for replica in range(2, entry.replicas + 1):
        servers, leases = f"{first.servers}@{replica}", f"{first.leases}@{replica}"
        specs.append(replace(first, replica=replica, servers=servers, leases=leases, colocated=None))
    return specs


def lease_files(run: RunDocument, model: str, benchmark: str) -> list[Path]:
    """The evaluation's leases, one for each replica."""
    entry = run.models[run.server_of(model, benchmark)]
    first = entry.serving.leases
    folders = [first, *(f"{first}@{replica}" for replica in range(2, entry.replicas + 1))]
    return [Path(folder) / f"{run.lease_name(model, benchmark)}.json" for folder in folders]


def held(run: RunDocument, model: str, benchmark: str) -> Iterator[Lease]:
    """Yields the leases that are not released and name a server."""
    for file in lease_files(run, model, benchmark):
        lease = read(file, Lease)
        if lease is not None and lease.holds_server:
            yield lease


def controller_of(run: RunDocument) -> Owner:
    """Returns who runs this run. Raises SlurmevalError where nobody does."""
    controller = read(run.paths.controller, Owner)
    if controller is None:
        raise SlurmevalError("no run is under way here: leases are taken for Snakemake's jobs")
    return controller


def is_up(server: ServerFolder) -> bool:
    """Returns whether a server's job has been submitted, and not ended as far as is known."""
    state = read(server.state, ServerState)
    if state is not None and not state.accepts_lessees:
        return False
    ended = any(file.exists() for file in (server.closed, server.gone, server.stop))
    return server.job.exists() and not ended


def is_running(lease: Lease) -> bool:
    """Returns whether the job of a lease's server has begun."""
    return lease.server is not None and (lease.server / ServerFolder.STATE).exists()
