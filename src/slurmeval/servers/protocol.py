"""The lease protocol, as steps over a tiny interface to a file system.

So a test can run every interleaving of them (tests/unit/servers/test_lease_protocol.py). docs/servers.md
argues why it holds.

The rules: a lease is written first, then its server is looked at; a server announces `closing` first,
then looks at the leases; whoever sees the other gives way, and a lessee never uses a server that it saw
closing. Only exclusive creation and atomic renames are used: locks may do nothing on a network file
system. Looking means listing a folder or opening a file, never stat, since opening makes an NFS client
ask its server again.

Each generator yields one operation at a time, as a tuple of a `Disk` method's name and its arguments, and
is sent the result. Between two yields other processes run, and any process may die.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from slurmeval.errors import ErrorClass, NotYet, ServerFailed, ServerStopped
from slurmeval.servers.folder import ServerFolder, numbered, numbers
from slurmeval.state.lease import Lease
from slurmeval.state.owner import Owner
from slurmeval.state.server import ServerJob, ServerState, ServerStatus
from slurmeval.state.server_spec import ServerSpec

T = TypeVar("T")
Steps = Generator[tuple[Any, ...], Any, T]

GIVE_WAY = frozenset({ServerFolder.CLOSING, ServerFolder.CLOSED, ServerFolder.STOP, ServerFolder.GONE})
"""A server with one of these files takes no lessees."""

MAX_REFUSED = 20
"""Servers that one lessee finds gone before it gives up."""


class Disk(Protocol):
    """What the protocol needs of a file system, a process table and a batch system."""

    def list(self, folder: Path) -> frozenset[str]:
        """The names in a folder; none where there is no folder."""

    def read(self, path: Path, record: type[T]) -> T | None:
        """`records.read`."""

    def write(self, path: Path, record: Any) -> None:
        """`records.write`."""

    def create(self, path: Path) -> bool:
        """Makes an empty file; False where it exists."""

    def make(self, folder: Path, files: Mapping[str, Any]) -> bool:
        """Makes a folder with records, all at once; False where it exists."""

    def remove(self, path: Path) -> None:
        """Removes a file."""

    def me(self) -> Owner:
        """This process's identity."""

    def alive(self, owner: Owner, heartbeat: Path | None) -> bool:
        """`processes.is_alive`."""

    def submit(self, folder: Path) -> None:
        """Has the server's job submitted, by a process that writes `job.json`.

        Raises ServerFailed, or NotYet once the folder is gone again.
        """

    def pause(self) -> None:
        """Lets others run. Raises ServerFailed when the wait has lasted too long."""


def run_steps(disk: Disk, steps: Steps[T]) -> T:
    """Runs a protocol on a real disk, to its end."""
    try:
        operation = next(steps)
        while True:
            try:
                result = getattr(disk, operation[0])(*operation[1:])
            except (ServerFailed, NotYet) as error:
                operation = steps.throw(error)
            else:
                operation = steps.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value


def acquiring(
    spec: ServerSpec,
    benchmark: str,
    controller: Owner,
    evaluation: Path | None = None,
    refused: int = 0,
) -> Steps[Lease]:
    """Takes a lease on the model's current server, or on a new one that it has submitted.

    The lease is `<leases>/<benchmark>.json`; the server's number is above `refused` in any case. Raises
    ServerFailed where this run's server of that spec has failed for good; no lease is left then.
    """
    servers, path = Path(spec.servers), Path(spec.leases) / f"{benchmark}.json"
    lease = Lease(servers, spec.model, benchmark, None, controller, evaluation)
    try:
        for _ in range(MAX_REFUSED):
            number = max(numbers((yield ("list", servers))), default=0)
            won = number <= refused
            if won:
                number = refused + 1
                submitter = replace((yield ("me",)), token=controller.token)
                files = {ServerFolder.SPEC: spec, ServerFolder.SUBMITTER: submitter}
                won = yield ("make", numbered(servers, number), files)
            server = numbered(servers, number)
            lease = replace(lease, server=server, job_id=None)
            yield ("write", path, lease)
            if not (yield from usable(server, spec, controller)):
                refused = number
                continue
            if won:
                yield ("submit", server)
            job = yield from _submitted(server, spec, controller)
            if job is not None:
                lease = replace(lease, job_id=job.job_id)
                yield ("write", path, lease)
                # A listing that ran during this second write may have missed the lease: look once more.
                if (yield from usable(server, spec, controller)):
                    return lease
            refused = number
        raise ServerFailed(f"{MAX_REFUSED} servers of {spec.model} in a row went while they were leased")
    except ServerFailed:
        yield ("write", path, replace(lease, released=True))
        raise


def _submitted(server: Path, spec: ServerSpec, controller: Owner) -> Steps[ServerJob | None]:
    """Waits for `job.json`, written by another process; None where the server came to nothing meanwhile."""
    while True:
        job: ServerJob | None = yield ("read", server / ServerFolder.JOB, ServerJob)
        if job is not None:
            return job
        if not (yield from usable(server, spec, controller)):
            return None
        yield ("pause",)


def usable(server: Path, spec: ServerSpec, controller: Owner) -> Steps[bool]:
    """Returns whether a lessee that has written its lease may stay with this server.

    Raises ServerFailed where the server was this run's own and failed (another would fail the same way)
    or was stopped on purpose.
    """
    names = yield ("list", server)
    state: ServerState | None = yield ("read", server / ServerFolder.STATE, ServerState)
    submitter: Owner | None = yield ("read", server / ServerFolder.SUBMITTER, Owner)
    if submitter is None:  # what a server wrote into its folder after someone had removed it
        return False
    if submitter.token == controller.token:
        if state is not None and state.status is ServerStatus.FAILED:
            raise ServerFailed(str(state.reason), state.error_class or ErrorClass.SERVER_LOST)
        if ServerFolder.STOP in names:
            raise ServerStopped("the server was stopped with `slurmeval stop`")
    if not names.isdisjoint(GIVE_WAY) or (state is not None and not state.accepts_lessees):
        return False
    if (yield ("read", server / ServerFolder.SPEC, ServerSpec)) != spec:
        return False
    owner = None if state is None else state.owner
    if owner is not None and (yield ("alive", owner, server / ServerFolder.STATE)):
        return True
    job: ServerJob | None = yield ("read", server / ServerFolder.JOB, ServerJob)
    if job is None:
        alive: bool = yield ("alive", submitter, server / ServerFolder.SUBMITTER)
        return alive
    # A batch system's job may be pending for days, and is requeued under its id: it counts.
    return job.process is None or (yield ("alive", job.process, None))


def closing(server: Path, leases: Path, controller: Path) -> Steps[bool]:
    """One try of a server to close itself.

    True: it is closed for good, and no live lease names it. False: it is leased, and stays open.
    """
    if (yield from living(server, leases, controller, limit=1)):
        return False
    yield ("create", server / ServerFolder.CLOSING)
    if (yield from living(server, leases, controller, limit=1)):
        yield ("remove", server / ServerFolder.CLOSING)
        return False
    yield ("create", server / ServerFolder.CLOSED)
    return True


def living(server: Path, leases: Path, controller: Path, limit: int | None = None) -> Steps[list[Path]]:
    """Returns the live leases on a server, `limit` at most.

    A live lease is not released, and its controller or its evaluation is alive.
    """
    found = []
    for path in (yield from _files(leases)):
        lease = yield from _held(path, server)
        if lease is not None and (yield from counting(lease, controller)):
            found.append(path)
        if len(found) == limit:
            break
    return found


def running(server: Path, leases: Path) -> Steps[int]:
    """Returns how many evaluations that lease a server run."""
    count = 0
    for path in (yield from _files(leases)):
        lease = yield from _held(path, server)
        count += lease is not None and (yield from evaluating(lease))
    return count


def _files(leases: Path) -> Steps[list[Path]]:
    names: frozenset[str] = yield ("list", leases)
    return [leases / name for name in sorted(names) if name.endswith(".json") and not name.startswith(".")]


def _held(path: Path, server: Path) -> Steps[Lease | None]:
    """Returns a lease that names this server and is not released, or None."""
    lease: Lease | None = yield ("read", path, Lease)
    return None if lease is None or lease.released or lease.server != server else lease


def counting(lease: Lease, controller: Path) -> Steps[bool]:
    """Returns whether the controller or the evaluation of a lease is alive.

    The controller's heartbeat alone does not tell: it may be that of a later run.
    """
    now: Owner | None = yield ("read", controller, Owner)
    current = now is not None and now.token == lease.controller.token
    if current and (yield ("alive", lease.controller, controller)):
        return True
    return (yield from evaluating(lease))


def evaluating(lease: Lease) -> Steps[bool]:
    """Returns whether the evaluation of a lease runs."""
    if lease.evaluation is None:
        return False
    owner: Owner | None = yield ("read", lease.evaluation, Owner)
    alive: bool = owner is not None and (yield ("alive", owner, lease.evaluation))
    return alive
