"""What a gateway is told when it starts, and what it says in files of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class GatewayConfig:
    """The settings of one gateway."""

    leases: list[Path]
    """The lease files, one for each replica; each names its server's folder."""
    log: Path
    """The folder of the request log, kept between tries of an evaluation."""
    ready_file: Path
    """Written (mode 0600) once the gateway listens: its URL and the key that it wants."""
    max_in_flight: int
    """Requests under way at the server at most; more wait."""
    hold_s: float
    """Longest time that requests wait while all servers are away, from the moment when the last one went.
    Before the first has answered they wait without bound."""
    retries: int
    """How often a request is sent again to servers that answer others; each time to each replica."""
    request_timeout_s: float
    """Longest time from sending a request to the end of its answer."""
    model: str
    """The name under which the server serves the model."""
    seats: int | None = None
    """Requests that the model's servers answer at once, for all that run to share; None: they share none."""
    max_tokens: int | None = None
    """Longest answer where a request sets no limit; None: the server's own."""
    reasons: bool = False
    """Whether the model thinks before it answers."""
    thoughts: list[str] | None = None
    """The tags around its thoughts, which are kept from the harness; None: the server splits them off."""
    blank_refused: bool = False
    """Whether the harness gets an empty answer in the place of a refused prompt."""
    noise_audit: float = 0.0
    """Share of the requests that are asked once more, 0 to 1."""
    socket: Path | None = None
    """A socket to listen on as well, for a harness that has no network."""
    host: str = "127.0.0.1"
    port: int = 0
    """0: any free port."""


@dataclass(frozen=True)
class GatewayReady:
    """What a gateway writes once it listens."""

    url: str
    api_key: str
    pid: int


@dataclass(frozen=True)
class LogFailure:
    """Why a gateway cannot write its log any more."""

    reason: str
    failed_at: float
    """Seconds since the epoch."""
