"""The lease protocol, as steps over a tiny interface to a file system, so that a test can run every
interleaving of them (tests/unit/servers/test_lease_protocol.py). docs/servers.md argues why it holds.

The rules: a lease is written first, then its server is looked at; a server announces `closing` first,
then looks at the leases; whoever sees the other gives way, and a lessee never uses a server that it saw
closing. Only exclusive creation and atomic renames are used: locks may do nothing on a network file
system. Looking means listing a folder or opening a file, never stat, since opening makes an NFS client
ask its server again.

Each generator yields one operation at a time, as a tuple of a `Disk` method's name and its arguments, and
is sent the result. Between two yields other processes run, and any process may die."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from slurmeval.errors import ErrorClass, NotYet, ServerFailed, ServerStopped
from slurmeval.servers.folder import ServerFolder, numbered, numbers

T = TypeVar("T")
Steps = Generator[tuple[Any, ...], Any, T]

GIVE_WAY = frozenset({ServerFolder.CLOSING, ServerFolder.CLOSED, ServerFolder.STOP, ServerFolder.GONE})
"""A server with one of these files takes no lessees."""

MAX_REFUSED = 20
"""Servers that one lessee finds gone before it gives up."""

ENDED = frozenset({"draining", "stopped", "failed"})
"""A server with one of these statuses takes no lessees."""


class Disk(Protocol):
    """What the protocol needs of a file system, a process table and a batch system."""

    def list(self, folder: Path) -> frozenset[str]:
        """The names in a folder; none where there is no folder."""

    def read(self, path: Path) -> Any:
        """The JSON value in a file; None where there is none, or not a whole one."""

    def write(self, path: Path, value: Any) -> None:
        """Replaces a file's JSON value atomically."""

    def create(self, path: Path) -> bool:
        """Makes an empty file; False where it exists."""

    def make(self, folder: Path, files: Mapping[str, Any]) -> bool:
        """Makes a folder with JSON files, all at once; False where it exists."""

    def remove(self, path: Path) -> None:
        """Removes a file."""

    def me(self) -> dict[str, Any]:
        """This process's identity."""

    def alive(self, owner: Mapping[str, Any], beat: Path | None) -> bool:
        """`processes.is_alive`."""

    def submit(self, folder: Path) -> None:
        """Has the server's job submitted, by a process that writes `job.json`. Raises ServerFailed, or NotYet
        once the folder is gone again."""

    def pause(self) -> None:
        """Lets others run. Raises ServerFailed when the wait has lasted too long."""


class Lease(NamedTuple):
    """An evaluation's claim on its model's server."""

    server: Path
    """The server's folder."""
    model: str
    benchmark: str
    job_id: str | None
    """The server's job; None while it is being submitted."""
    controller: dict[str, Any]
    """Identity and token of the run that took the lease."""
    evaluation: str | None = None
    """The file by which the evaluation claims to run (`work/…/owner.json`): it may outlive its controller."""
    released: bool = False

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "server": str(self.server)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Lease:
        known = {name: value[name] for name in cls._fields if name in value}
        return cls(**{**known, "server": Path(value["server"])})


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
    spec: Mapping[str, Any],
    benchmark: str,
    controller: Mapping[str, Any],
    evaluation: str | None = None,
    refused: int = 0,
) -> Steps[Lease]:
    """Takes the lease `<leases>/<benchmark>.json` on the model's current server, or on a new one that it has
    submitted; on one with a number above `refused` in any case. Raises ServerFailed where this run's server
    of that spec has failed for good; no lease is left then."""
    servers, path = Path(spec["servers"]), Path(spec["leases"]) / f"{benchmark}.json"
    lease = Lease(servers, spec["model"], benchmark, None, dict(controller), evaluation)
    try:
        for _ in range(MAX_REFUSED):
            lease = lease._replace(job_id=None)
            number = max(numbers((yield ("list", servers))), default=0)
            won = number <= refused
            if won:
                number = refused + 1
                submitter = {**(yield ("me",)), "token": controller.get("token")}
                files = {ServerFolder.SPEC: dict(spec), ServerFolder.SUBMITTER: submitter}
                won = yield ("make", numbered(servers, number), files)
            lease = lease._replace(server=numbered(servers, number))
            yield ("write", path, lease.to_json())
            if not (yield from usable(lease.server, spec, lease.controller)):
                refused = number
                continue
            if won:
                yield ("submit", lease.server)
            job = yield from _submitted(lease.server, spec, lease.controller)
            if job is not None:
                lease = lease._replace(job_id=str(job["job_id"]))
                yield ("write", path, lease.to_json())
                # A listing that ran during this second write may have missed the lease: look once more.
                if (yield from usable(lease.server, spec, lease.controller)):
                    return lease
            refused = number
        raise ServerFailed(f"{MAX_REFUSED} servers of {spec['model']} in a row went while they were leased")
    except ServerFailed:
        yield ("write", path, lease._replace(released=True).to_json())
        raise


def _submitted(server: Path, spec: Mapping[str, Any], controller: Mapping[str, Any]) -> Steps[Any]:
    """Waits for `job.json`, written by another process; None where the server came to nothing meanwhile."""
    while True:
        job = yield ("read", server / ServerFolder.JOB)
        if job is not None:
            return job
        if not (yield from usable(server, spec, controller)):
            return None
        yield ("pause",)


def usable(server: Path, spec: Mapping[str, Any], controller: Mapping[str, Any]) -> Steps[bool]:
    """Whether a lessee that has written its lease may stay with this server. Raises ServerFailed where the
    server was this run's own and failed (another would fail the same way) or was stopped on purpose."""
    names = yield ("list", server)
    state = (yield ("read", server / ServerFolder.STATE)) or {}
    submitter = yield ("read", server / ServerFolder.SUBMITTER)
    if submitter is None:  # what a server wrote into its folder after someone had removed it
        return False
    if submitter.get("token") == controller.get("token"):
        if state.get("status") == "failed":
            error_class = ErrorClass(state.get("error_class") or "server_lost")
            raise ServerFailed(str(state.get("reason")), error_class)
        if ServerFolder.STOP in names:
            raise ServerStopped("the server was stopped with `slurmeval stop`")
    if not names.isdisjoint(GIVE_WAY) or state.get("status") in ENDED:
        return False
    if (yield ("read", server / ServerFolder.SPEC)) != spec:
        return False
    if state.get("owner") and (yield ("alive", state["owner"], server / ServerFolder.STATE)):
        return True
    job = yield ("read", server / ServerFolder.JOB)
    if job is None:
        alive: bool = yield ("alive", submitter, server / ServerFolder.SUBMITTER)
        return alive
    process = job.get("process")
    # A batch system's job may be pending for days, and is requeued under its id: it counts.
    return process is None or (yield ("alive", process, None))


def closing(server: Path, leases: Path, controller: Path) -> Steps[bool]:
    """One try of a server to close itself. True: it is closed for good, and no live lease names it. False:
    it is leased, and stays open."""
    if (yield from living(server, leases, controller, limit=1)):
        return False
    yield ("create", server / ServerFolder.CLOSING)
    if (yield from living(server, leases, controller, limit=1)):
        yield ("remove", server / ServerFolder.CLOSING)
        return False
    yield ("create", server / ServerFolder.CLOSED)
    return True


def living(server: Path, leases: Path, controller: Path, limit: int | None = None) -> Steps[list[Path]]:
    """The live leases on a server, `limit` at most: not released, and their controller or their evaluation
    is alive."""
    found = []
    for name in sorted((yield ("list", leases))):
        is_lease = name.endswith(".json") and not name.startswith(".")
        if is_lease and (yield from _names(leases / name, server, controller)):
            found.append(leases / name)
        if len(found) == limit:
            break
    return found


def _names(path: Path, server: Path, controller: Path) -> Steps[bool]:
    """Whether a lease names this server and is live."""
    lease = yield ("read", path)
    if lease is None or lease["released"] or lease["server"] != str(server):
        return False
    return (yield from counting(lease, controller))


def counting(lease: Mapping[str, Any], controller: Path) -> Steps[bool]:
    """Whether the controller or the evaluation of a lease is alive. The controller's beat alone does not
    tell: it may be that of a later run."""
    now = yield ("read", controller)
    current = now is not None and now.get("token") == lease["controller"].get("token")
    if current and (yield ("alive", lease["controller"], controller)):
        return True
    return (yield from evaluating(lease))


def evaluating(lease: Mapping[str, Any]) -> Steps[bool]:
    """Whether the evaluation of a lease runs."""
    if lease.get("evaluation") is None:
        return False
    claim = Path(lease["evaluation"])
    owner = yield ("read", claim)
    alive: bool = owner is not None and (yield ("alive", owner, claim))
    return alive
