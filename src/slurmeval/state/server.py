"""The files of a server, by which its supervisor, its lessees and the controller know of each other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from slurmeval.errors import ErrorClass
from slurmeval.state.engine_run import EngineRunRecord
from slurmeval.state.owner import Owner
from slurmeval.state.records import Unreadable, load
from slurmeval.state.server_spec import JobParameters


class ServerStatus(StrEnum):
    """How far a server is."""

    PENDING = "pending"
    """Its job waits: for Slurm, for a slot, or after a requeue."""
    STARTING = "starting"
    """The engine loads the model."""
    READY = "ready"
    """The engine has answered a prompt."""
    RESTARTING = "restarting"
    """The engine has ended, and is started again in this job."""
    DRAINING = "draining"
    """Requests under way end; new ones are not taken."""
    STOPPED = "stopped"
    """It has ended as it should."""
    FAILED = "failed"
    """It has ended for good, with a reason."""
    GONE = "gone"
    """Its job has ended, and the supervisor did not say why. The controller says so."""
    SILENT = "silent"
    """Its job runs, and the supervisor says nothing. Only shown, never written."""

    @property
    def accepts_lessees(self) -> bool:
        """Whether an evaluation may lease the server."""
        return self in (self.PENDING, self.STARTING, self.READY, self.RESTARTING)

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self in (self.STOPPED, self.FAILED, self.GONE)

    @property
    def successors(self) -> frozenset[ServerStatus]:
        """The statuses that may follow."""
        return _SUCCESSORS[self]

    def may_become(self, other: ServerStatus) -> bool:
        """Returns whether a supervisor may say `other` after this."""
        return other == self or other in self.successors


_S = ServerStatus
_SUCCESSORS = {
    _S.PENDING: frozenset({_S.STARTING, _S.STOPPED, _S.FAILED, _S.GONE}),
    _S.STARTING: frozenset({_S.READY, _S.RESTARTING, _S.PENDING, _S.STOPPED, _S.FAILED, _S.GONE}),
    _S.READY: frozenset({_S.RESTARTING, _S.DRAINING, _S.PENDING, _S.STOPPED, _S.FAILED, _S.GONE}),
    _S.RESTARTING: frozenset({_S.STARTING, _S.PENDING, _S.STOPPED, _S.FAILED, _S.GONE}),
    _S.DRAINING: frozenset({_S.STOPPED, _S.FAILED, _S.GONE}),
    _S.STOPPED: frozenset(),
    _S.FAILED: frozenset(),
    _S.GONE: frozenset(),
    _S.SILENT: frozenset(),
}


@dataclass(frozen=True)
class ServerState:
    """`state.json`: what the supervisor says. Its modification time is the server's heartbeat."""

    OLDER_NAMES: ClassVar[dict[str, str]] = {"life": "engine_run"}

    status: ServerStatus
    reason: str | None = None
    error_class: ErrorClass | None = None
    engine_run: int = 0
    """Number of the engine run."""
    server_id: str | None = None
    fencing_token: tuple[float, float] | None = None
    """The fencing token: how often Slurm has started the job again, and when the supervisor began."""
    owner: Owner | None = None
    """The supervisor; None while nobody runs the server."""
    job_id: str | None = None
    restart: int = 0
    node: str | None = None
    gpus: int = 0
    ends_at: str | None = None
    """When the job's time ends, ISO UTC, as the other times."""
    started_at: str | None = None
    ready_at: str | None = None
    changed_at: str | None = None
    """When it came to this status."""
    generated_tokens: int = 0
    prompt_tokens: int = 0
    tokens_per_s: float = 0.0
    requests_running: int = 0
    evaluations: int = 0
    """Those that lease it and run."""
    under_way: EngineRunRecord | None = None
    """The engine run so far, for the case that nobody lives to tell of its end."""

    @property
    def accepts_lessees(self) -> bool:
        """Whether an evaluation may lease the server."""
        return self.status.accepts_lessees


def failed(reason: str, before: ServerState | None = None) -> ServerState:
    """Returns the state of a server that failed while no supervisor runs it."""
    state = before or ServerState(ServerStatus.FAILED)
    status, error_class = ServerStatus.FAILED, ErrorClass.SERVER_LOST
    return replace(state, status=status, reason=reason, error_class=error_class, owner=None)


@dataclass(frozen=True)
class ServerJob:
    """`job.json`: the job that the server runs in."""

    job_id: str
    cluster: str = "local"
    """submitit's executor: local or slurm."""
    submitted_at: str | None = None
    name: str | None = None
    process: Owner | None = None
    """Of a local job: the process itself."""

    @property
    def is_on_slurm(self) -> bool:
        """Whether Slurm runs it."""
        return self.cluster == "slurm"


@dataclass(frozen=True)
class SharedJob:
    """The contents of `shared_job.json`.

    It names the other servers that share the job of this one, and what is asked for all of them.
    """

    others: list[str]
    job: JobParameters = field(default_factory=JobParameters)


@dataclass(frozen=True)
class Gone:
    """`gone`: the controller has seen that the job ended without a word."""

    state: str | None = None
    """Slurm's state of the job."""
    reason: str | None = None

    def __str__(self) -> str:
        return self.reason or self.state or "its job has ended"


def read_gone(path: Path) -> Gone | None:
    """Returns what a file `gone` says; None if there is none. That the file exists says most of it."""
    try:
        return load(path, Gone)
    except FileNotFoundError:
        return None
    except Unreadable:
        return Gone()


@dataclass(frozen=True)
class Endpoint:
    """`endpoint.json`: where the server answers, for its owner's eyes only."""

    OLDER_NAMES: ClassVar[dict[str, str]] = {"life": "engine_run"}

    url: str
    api_key: str
    model: str = ""
    engine_run: int = 0
    """Number of the engine run."""
