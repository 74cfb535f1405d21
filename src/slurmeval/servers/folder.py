"""The files of one server. No other module builds these names. Imported by every lease: keep it light."""

from __future__ import annotations

from pathlib import Path


class ServerFolder:
    """`state/servers/<model>/<NNNN>`: all that is known of one server."""

    SPEC = "spec.json"
    SUBMITTER = "submitter.json"
    JOB = "job.json"
    STATE = "state.json"
    CLOSING = "closing"
    CLOSED = "closed"
    STOP = "stop"
    GONE = "gone"

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.spec = self.path / self.SPEC
        self.submitter = self.path / self.SUBMITTER
        """Who made the folder and submits its job: process identity and the controller's token."""
        self.job = self.path / self.JOB
        self.submitted = self.path / "submitted"
        """Made by the process that submits, before it does: nobody submits a second time."""
        self.shared_job = self.path / "shared_job.json"
        """The other servers that share the job of this one, and what is asked for all of them."""
        self.state = self.path / self.STATE
        self.endpoint = self.path / "endpoint.json"
        self.closing = self.path / self.CLOSING
        self.closed = self.path / self.CLOSED
        self.stop = self.path / self.STOP
        self.gone = self.path / self.GONE
        """The controller has seen that the server's job ended without a word: what the batch system says."""
        self.engine_runs = self.path / "engine_runs.jsonl"
        self.engine_log = self.path / "engine.log"
        self.supervisor_log = self.path / "supervisor.log"
        self.submit_log = self.path / "submit.log"
        self.submitit = self.path / "submitit"
        """submitit's own files: pickles, standard output and error of the job."""

    def rank_log(self, rank: int) -> Path:
        """Returns the log of the engine's part on a further node."""
        return self.engine_log.with_name(f"engine-{rank}.log")

    @property
    def server_id(self) -> str:
        """Model and number, as the tables have them."""
        return f"{self.path.parent.name}/{self.path.name}"


def numbered(servers: Path, number: int) -> Path:
    """The folder of a model's `number`-th server."""
    return servers / f"{number:04d}"


def numbers(names: frozenset[str]) -> list[int]:
    """The servers' numbers among the names in a model's folder."""
    return [int(name) for name in names if name.isdecimal()]
