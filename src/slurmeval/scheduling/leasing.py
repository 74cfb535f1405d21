"""The leases of an evaluation: one for each replica of its model's server.

Every evaluation starts a process to take them, so what this module imports is light.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from slurmeval.errors import NotYet, ServerFailed
from slurmeval.paths import Paths
from slurmeval.scheduling import finished
from slurmeval.scheduling.failures import no_server, record
from slurmeval.scheduling.replicas import controller_of, held, lease_files, replica_specs
from slurmeval.scheduling.server_submission import acquire, submit_earlier
from slurmeval.servers import leases
from slurmeval.state.lease import Lease
from slurmeval.state.records import Unreadable, read, write
from slurmeval.state.run_document import RunDocument


def lease(run: RunDocument, model: str, benchmark: str) -> None:
    """Holds the leases of an evaluation: takes them, or leaves those that hold as they are.

    Raises ServerFailed where no replica is to be had, NotYet where none is to be had yet, SlurmevalError
    where no run is under way.
    """
    controller = controller_of(run)
    lock_file = run.lock_file(model, benchmark)
    failure: ServerFailed | None = None
    not_yet: NotYet | None = None
    held = False
    server, name = run.server_of(model, benchmark), run.lease_name(model, benchmark)
    for spec in replica_specs(run, server):
        try:
            if not leases.holds(spec, name, controller):
                acquire(run, server, spec, name, lock_file)
            held = True
        except ServerFailed as error:
            failure = error
        except NotYet as error:  # the reconciler tries again where another replica is held
            not_yet = error
    if not held and (not_yet or failure):
        raise not_yet or failure  # type: ignore[misc]


def check(run: RunDocument, model: str, benchmark: str) -> bool:
    """Whether a server is there or on its way, taking no lease.

    Raises ServerFailed where all have failed for good.
    """
    failure = None
    there = failed = 0
    specs = replica_specs(run, run.server_of(model, benchmark))
    for spec, file in zip(specs, lease_files(run, model, benchmark), strict=True):
        held_lease = read(file, Lease)
        try:
            there += held_lease is not None and leases.holds(
                spec, run.lease_name(model, benchmark), held_lease.controller
            )
        except ServerFailed as error:
            failure, failed = error, failed + 1
    if failure is not None and failed == len(specs):
        raise failure
    return there > 0


def release(run: RunDocument, model: str, benchmark: str) -> None:
    """Gives the leases back."""
    for file in lease_files(run, model, benchmark):
        leases.release(file)


def server_jobs(run: RunDocument, model: str, benchmark: str) -> list[str]:
    """The batch system's jobs of the servers that the evaluation holds leases of."""
    return [lease.job_id for lease in held(run, model, benchmark) if lease.job_id is not None]


def lease_for_rule(run: RunDocument, model: str, benchmark: str) -> None:
    """Takes a lease as the rule does, where a failure has to be recorded.

    Without a server the evaluation will not start. Raises EvaluationFailed then. An evaluation that an
    earlier run left finished needs no server, nor does one whose answers are all stored: its lease says so.
    """
    started_at = datetime.now(UTC)
    if finished.is_there(run, model, benchmark) or finished.all_answered(run, model, benchmark):
        no_lease = Lease(None, model, benchmark, None, controller_of(run), released=True)
        write(lease_files(run, model, benchmark)[0], no_lease)
        return
    try:
        submit_earlier(run, run.server_of(model, benchmark))
        lease(run, model, benchmark)
    except ServerFailed as error:
        failure = no_server(error)
        record(run.paths.failure(model, benchmark), failure, model, benchmark, started_at, None)
        raise failure from error


def forget_leases(paths: Paths, controller: Path | None) -> None:
    """Removes the leases that do not count.

    Those are the leases of runs that are gone, or, without `controller`, all but those of evaluations that
    run.
    """
    for file in paths.leases.glob("*/*.json"):
        try:
            counts = leases.counts(file, controller)
        except FileNotFoundError:
            continue
        except Unreadable:
            counts = False
        if not counts:
            file.unlink(missing_ok=True)
