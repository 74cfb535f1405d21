"""An evaluation's right to a server: `leases/<replica>/<benchmark>.json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slurmeval.state.owner import Owner


@dataclass(frozen=True)
class Lease:
    """An evaluation's right to its model's server."""

    server: Path | None
    """The server's folder; None if the evaluation needs no server."""
    model: str
    benchmark: str
    job_id: str | None
    """The server's job; None while it is being submitted."""
    controller: Owner
    """Process and token of the run that took the lease."""
    evaluation: Path | None = None
    """The evaluation's lock file (`work/…/owner.json`): it may outlive its controller."""
    released: bool = False

    @property
    def holds_server(self) -> bool:
        """Whether it names a server and has not been released."""
        return self.server is not None and not self.released
