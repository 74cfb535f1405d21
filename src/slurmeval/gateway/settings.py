"""What a gateway is told when it starts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from slurmeval.errors import UserError


@dataclass(frozen=True)
class GatewayConfig:
    """The settings of one gateway. JSON round trip through `write` and `read`."""

    leases: list[Path]
    """The lease files, one for each replica; each names its server's folder."""
    log: Path
    """The folder of the request log, kept between tries of an evaluation."""
    ready_file: Path
    """Written (mode 0600) once the gateway listens: its URL and the key that it wants."""
    max_in_flight: int
    """Requests under way at the server; more wait."""
    hold_s: float
    """Longest time that requests wait while all servers are away, from the moment when the last one went.
    Before the first has answered they wait without bound."""
    retries: int
    """How often a request is sent again to servers that answer others; each time to each replica."""
    request_timeout_s: float
    """Longest time from sending a request to the end of its answer."""
    model: str
    """The name under which the server serves the model."""
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

    def as_json(self) -> dict[str, Any]:
        """Returns what `read` reads, as JSON values."""
        value = {name: str(v) if isinstance(v, Path) else v for name, v in asdict(self).items()}
        return value | {"leases": [str(lease) for lease in self.leases]}

    @classmethod
    def read(cls, path: Path) -> GatewayConfig:
        """Raises UserError where the file is missing, no JSON, or has missing or unknown keys."""
        try:
            value = json.loads(path.read_bytes())
            for name in ("log", "ready_file"):
                value[name] = Path(value[name])
            value["socket"] = Path(value["socket"]) if value["socket"] else None
            value["leases"] = [Path(lease) for lease in value["leases"]]
            return cls(**value)
        except (OSError, ValueError, KeyError, TypeError) as error:
            known = ", ".join(field.name for field in fields(cls))
            raise UserError(f"{path}: no gateway config ({error}); its keys are {known}") from error
