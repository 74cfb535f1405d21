"""Runs the lease protocol in every order: processes whose steps are interleaved at will, and killed at will,
over a file system in memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from slurmeval.errors import ServerFailed
from slurmeval.servers.folder import ServerFolder, numbered
from slurmeval.servers.protocol import GIVE_WAY, acquiring, closing, living
from slurmeval.state.lease import Lease
from slurmeval.state.owner import Owner
from slurmeval.state.server import ServerJob, ServerState, ServerStatus
from slurmeval.state.server_spec import ServerSpec

SERVERS, LEASES, CONTROLLER = Path("/servers"), Path("/leases"), Path("/controller.json")
SPEC = ServerSpec(
    model="m",
    served_name="m",
    weights="",
    manifest="",
    python="",
    servers=str(SERVERS),
    leases=str(LEASES),
    controller=str(CONTROLLER),
    slots="",
)


def named(who: str) -> Owner:
    """The owner that a process is; its host is the process's name."""
    return Owner(who, 1, 1)


RUN = replace(named("controller"), token="run-1")


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclass(frozen=True)
class Content:
    """What a file holds: the value, and a number that equal values share, which it is compared by."""

    value: Any = field(compare=False)
    number: int


@dataclass(frozen=True)
class Process:
    """One process: how to start it, all that its operations have answered, and what follows from these."""

    name: str
    start: Callable[[], Generator[tuple[Any, ...], Any, Any]]
    history: tuple[Any, ...] = ()
    status: str = "running"
    operation: tuple[Any, ...] = ()
    """What it asks for next."""
    position: int = -1
    """Where it stands and what it knows: two processes with the same position go on alike."""
    saw_closing: frozenset[Path] = frozenset()

    @classmethod
    def started(cls, name: str, start: Callable[[], Generator[tuple[Any, ...], Any, Any]]) -> Process:
        generator = start()
        operation = next(generator)
        return cls(name, start, operation=operation, position=position(generator))

    @property
    def key(self) -> Any:
        return self.name, self.status, self.position if self.status == "running" else None, self.saw_closing


@dataclass(frozen=True)
class World:
    """All files and all processes at one moment."""

    files: Mapping[Path, Content]
    processes: tuple[Process, ...]
    submissions: tuple[Path, ...] = ()
    crashes_left: int = 0
    tries: int = 1
    """How often a server that is submitted tries to close itself."""

    def alive(self, name: str) -> bool:
        return name == "controller" or any(p.name == name and p.status == "running" for p in self.processes)

    def has_ended(self, name: str) -> bool:
        return any(p.name == name and p.status != "running" for p in self.processes)

    def names(self, folder: Path) -> frozenset[str]:
        depth = len(folder.parts)
        return frozenset(path.parts[depth] for path in self.files if folder in path.parents)

    def write(self, path: Path, value: Any) -> World:
        return replace(self, files={**self.files, path: Content(value, number_of(freeze(value)))})

    def remove(self, path: Path) -> World:
        return replace(self, files={kept: value for kept, value in self.files.items() if kept != path})

    @property
    def key(self) -> Any:
        """Equal for worlds that go on alike."""
        processes = tuple(process.key for process in self.processes)
        return frozenset(self.files.items()), processes, self.submissions, self.crashes_left

    def with_process(self, index: int, process: Process) -> World:
        processes = list(self.processes)
        processes[index] = process
        return replace(self, processes=tuple(processes))


def freeze(value: Any) -> Any:
    """A value as something hashable."""
    if isinstance(value, Mapping):
        return tuple(sorted((str(key), freeze(item)) for key, item in value.items()))
    if is_dataclass(value) and not isinstance(value, type):
        return tuple(freeze(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return str(value) if isinstance(value, Exception) else value


NUMBERS: dict[Any, int] = {}


def number_of(value: Any) -> int:
    """A number for a value, the same for equal ones: quicker to hash and to compare."""
    return NUMBERS.setdefault(value, len(NUMBERS))


SAME = {"_", "spec", "controller", "acquire", "close"}
"""Local variables that never change, or count rounds."""


def position(generator: Any) -> int:
    """Where a generator stands and what it knows: two with the same position go on alike."""
    places = []
    inner = generator  # the outer one must be kept: without a reference it is closed, and the inner with it
    while inner is not None and inner.gi_frame is not None:
        frame = inner.gi_frame
        known = {name: value for name, value in frame.f_locals.items() if name not in SAME}
        places.append((frame.f_code.co_name, frame.f_lasti, freeze(known)))
        inner = inner.gi_yieldfrom
    return number_of(tuple(places))


def resume(process: Process) -> tuple[Any, tuple[Any, ...]]:
    """The process's generator where it stands, and the operation that it asks for."""
    generator = process.start()
    operation = next(generator)
    for result in process.history:
        operation = generator.send(result)
    return generator, operation


def perform(world: World, process: Process, operation: tuple[Any, ...]) -> tuple[World, Any]:
    """What an operation does to the world, and its answer."""
    match operation:
        case ("list", folder):
            return world, world.names(folder)
        case ("read", path, _) if path == CONTROLLER:
            return world, RUN
        case ("read", path, _):
            content = world.files.get(path)
            return world, None if content is None else content.value
        case ("write", path, value):
            return world.write(path, value), None
        case ("create", path):
            return (world, False) if path in world.files else (world.write(path, ""), True)
        case ("make", folder, contents):
            if world.names(folder):
                return world, False
            for name, value in contents.items():
                world = world.write(folder / name, value)
            return world, True
        case ("remove", path):
            return world.remove(path), None
        case ("me",):
            return world, named(process.name)
        case ("alive", owner, _):
            return world, world.alive(owner.host)
        case ("submit", folder):
            return replace(world, processes=(*world.processes, submitter(folder))), None
        case ("started", folder):
            spawned = (*world.processes, server(folder, world.tries))
            return replace(world, processes=spawned, submissions=(*world.submissions, folder)), None
        case ("rest", _) | ("pause",):
            return world, None
    raise ValueError(operation)


def submitter(folder: Path) -> Process:
    """The process that submits: it lives on when the lessee that started it is killed."""

    def steps() -> Generator[tuple[Any, ...], Any, None]:
        yield ("started", folder)
        yield (
            "write",
            folder / ServerFolder.JOB,
            ServerJob("1", process=named(f"server {folder.name}")),
        )

    return Process.started(f"submitter {folder.name}", steps)


def server(folder: Path, tries: int, close: Callable[..., Any] = closing) -> Process:
    """A server that tries to close itself."""
    name = f"server {folder.name}"

    def steps() -> Generator[tuple[Any, ...], Any, None]:
        yield ("write", folder / ServerFolder.STATE, ServerState(ServerStatus.READY, owner=named(name)))
        for _ in range(tries):
            if (yield from close(folder, LEASES, CONTROLLER)):
                yield (
                    "write",
                    folder / ServerFolder.STATE,
                    ServerState(ServerStatus.STOPPED, owner=named(name)),
                )
                return
        while True:
            yield ("pause",)

    return Process.started(name, steps)


def lessee(name: str, acquire: Callable[..., Any] = acquiring) -> Process:
    """An evaluation: takes its lease, uses the server, and Snakemake removes the lease."""

    def steps() -> Generator[tuple[Any, ...], Any, Lease]:
        lease = yield from acquire(SPEC, name, RUN)
        yield ("rest", lease.server)
        yield ("remove", LEASES / f"{name}.json")
        return lease

    return Process.started(name, steps)


def is_fixed(world: World, operation: tuple[Any, ...]) -> bool:
    """Whether an operation's answer is the same whatever the others do from here on. It is then no step of
    its own: it changes nothing, and commutes with all that others do."""
    match operation:
        case ("me",):
            return True
        case ("alive", owner, _):
            return owner.host == "controller" or world.has_ended(owner.host)
        case ("read", path, _) if path.name in (ServerFolder.SPEC, ServerFolder.SUBMITTER):
            return True
        case ("read", path, _) if path.name == ServerFolder.JOB:
            return path in world.files or world.has_ended(f"submitter {path.parent.name}")
        case ("read", path, _) if path.name == ServerFolder.STATE:
            return world.has_ended(f"server {path.parent.name}")
        case ("read", path, _) if path.parent == LEASES:
            return world.has_ended(path.stem)
        case ("list", folder) if folder.parent == SERVERS:
            return world.has_ended(f"server {folder.name}")
    return False


def step(world: World, index: int) -> World:
    """Lets a process do its next operation, and what follows that concerns nobody else."""
    process = world.processes[index]
    generator, operation = resume(process)
    history, saw_closing = list(process.history), process.saw_closing
    while True:
        world, result = perform(world, process, operation)
        history.append(result)
        if operation[0] == "list" and not result.isdisjoint(GIVE_WAY):
            saw_closing |= {operation[1]}
        try:
            operation = generator.send(result)
        except StopIteration:
            return world.with_process(index, replace(process, status="done"))
        except ServerFailed:
            return world.with_process(index, replace(process, status="failed"))
        if not is_fixed(world, operation):
            break
    going_on = replace(
        process,
        history=tuple(history),
        operation=operation,
        position=position(generator),
        saw_closing=saw_closing if process.name.startswith("lessee") else frozenset(),
    )
    return world.with_process(index, going_on)


ANY = 10**6
"""More switches than there are steps."""


def successors(world: World, current: int, switches: int) -> Iterator[tuple[World, int, int]]:
    """Every world that may follow, who ran last, and how many more switches there may be. Leaving a process
    that has ended or that waits is no switch, nor is a kill."""
    last = world.processes[current]
    is_free = last.status != "running" or last.operation[0] == "pause"
    for index, process in enumerate(world.processes):
        if process.status != "running":
            continue
        left = switches if switches == ANY or is_free or index == current else switches - 1
        if left < 0:
            continue
        ran = 0 if switches == ANY else index
        yield step(world, index), ran, left
        if world.crashes_left:
            killed = world.with_process(index, replace(process, status="killed"))
            yield replace(killed, crashes_left=world.crashes_left - 1), ran, left


def check(world: World) -> None:
    """The invariants that hold in every world. Raises Violation."""
    if len(set(world.submissions)) < len(world.submissions):
        raise Violation(f"submitted twice: {world.submissions}")
    for process in world.processes:
        if process.status == "running" and process.operation[0] == "rest":
            used = process.operation[1]
            if used / ServerFolder.CLOSED in world.files:
                raise Violation(f"{process.name} rests on {used.name}, which is closed")
            if used in process.saw_closing:
                raise Violation(f"{process.name} rests on {used.name}, which it saw closing")


def settle(world: World, rounds: int = 200) -> World:
    """Lets all processes go on in turn, and Snakemake clear away the leases of killed ones; afterwards every
    server closes that is alive. Raises Violation where a lessee never comes to an end."""
    for _ in range(rounds):
        for index, process in enumerate(world.processes):
            if process.status == "running" and not process.name.startswith("server"):
                world = step(world, index)
                check(world)
            elif process.status == "killed":
                world = world.remove(LEASES / f"{process.name}.json")
    waiting = [p.name for p in world.processes if p.status == "running" and not p.name.startswith("server")]
    if waiting:
        raise Violation(f"{waiting} wait for ever")
    return world


def check_closes(world: World) -> None:
    """When all is over, each server that lives is unleased and closes at its next try. Raises Violation."""
    for folder in world.submissions:
        if not world.alive(f"server {folder.name}"):
            continue
        if finish(world, living(folder, LEASES, CONTROLLER))[1]:
            raise Violation(f"{folder.name} is leased though all is over")
        if not finish(world, closing(folder, LEASES, CONTROLLER))[1]:
            raise Violation(f"{folder.name} never closes")


def finish(world: World, steps: Generator[tuple[Any, ...], Any, Any]) -> tuple[World, Any]:
    """Runs steps to their end while everybody else stands still."""
    nobody = Process("nobody", lambda: steps)
    try:
        operation = next(steps)
        while True:
            world, result = perform(world, nobody, operation)
            operation = steps.send(result)
    except StopIteration as stop:
        return world, stop.value


def explore(world: World, switches: int = ANY, most: int = 200_000) -> int:
    """Visits every world that is reachable with at most so many switches away from a process that could have
    gone on, and returns how many there are. Raises Violation, or OverflowError above `most`."""
    seen: dict[Any, int] = {}
    first = 1 if switches == ANY else len(world.processes)
    stack = [(world, index, switches) for index in range(first)]
    while stack:
        world, current, left = stack.pop()
        if seen.get((world.key, current), -1) >= left:
            continue
        seen[world.key, current] = left
        if len(seen) > most:
            raise OverflowError(f"more than {most} worlds")
        check(world)
        stack.extend(successors(world, current, left))
    return len({key for key, _ in seen})


def ready_world(lessees: int, crashes: int = 0, tries: int = 2, later_tries: int = 1, **how: Any) -> World:
    """Server 0001 is up and unleased, and tries to close itself `tries` times, later servers `later_tries`
    times; the lessees are about to start."""
    first = numbered(SERVERS, 1)
    close = how.pop("close", closing)
    processes = [lessee(f"lessee-{number}", **how) for number in range(lessees)]
    world = World({}, (server(first, tries, close), *processes), (first,), crashes, later_tries)
    for name, value in {
        ServerFolder.SPEC: SPEC,
        ServerFolder.SUBMITTER: replace(named("lessee-before"), token="run-1"),
        ServerFolder.JOB: ServerJob("1", process=named("server 0001")),
        ServerFolder.STATE: ServerState(ServerStatus.READY, owner=named("server 0001")),
    }.items():
        world = world.write(first / name, value)
    return world


def empty_world(lessees: int, crashes: int = 0, tries: int = 1) -> World:
    """No server has been yet."""
    return World({}, tuple(lessee(f"lessee-{number}") for number in range(lessees)), (), crashes, tries)
