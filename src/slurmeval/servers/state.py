"""What a supervisor tells the world: `state.json`, its beat, and `endpoint.json`."""

from __future__ import annotations

import socket
import time
from typing import Any

from slurmeval.errors import ErrorClass
from slurmeval.files import read_json, write_json
from slurmeval.processes import identity
from slurmeval.servers.accounting import Figures, Life, read_lives, timestamp
from slurmeval.servers.folder import ServerFolder


class Published:
    """The state of one server, on disk. Only its supervisor writes it."""

    def __init__(self, folder: ServerFolder) -> None:
        self._folder = folder
        lives = read_lives(folder.lives)
        self._before = Figures(
            generated_tokens=sum(life["generated_tokens"] for life in lives),
            prompt_tokens=sum(life["prompt_tokens"] for life in lives),
        )
        self.lives = max((life["life"] for life in lives), default=0)
        """Lives so far: a job that was requeued counts on."""
        before = read_json(folder.state) or {}
        now = timestamp(time.time())
        self._state: dict[str, Any] = {
            "status": "pending",
            "reason": None,
            "error_class": None,
            "life": self.lives,
            "server_id": folder.server_id,
            "owner": identity(),
            "started_at": before.get("started_at") or now,
            "ready_at": None,
            "changed_at": now,
            "generated_tokens": self._before.generated_tokens,
            "prompt_tokens": self._before.prompt_tokens,
            "tokens_per_s": 0.0,
            "requests_running": 0,
        }
        self._beaten = 0.0

    @property
    def status(self) -> str:
        status: str = self._state["status"]
        return status

    def change(self, status: str, reason: str | None = None, error_class: ErrorClass | None = None) -> None:
        """Publishes a new status at once."""
        now = timestamp(time.time())
        self._state |= {"status": status, "reason": reason, "error_class": error_class, "changed_at": now}
        if status == "ready":
            self._state["ready_at"] = now
        else:
            self._state |= {"tokens_per_s": 0.0, "requests_running": 0}
        self._write()

    def disown(self) -> None:
        """Before a requeue: nobody runs this server until its job starts again."""
        self._state["owner"] = None

    def begin(self, life: Life) -> None:
        self.lives = life.number
        self._state["life"] = life.number

    def take_in(self, life: Life) -> None:
        """Shows a life's figures with the next beat."""
        self._state |= {
            "generated_tokens": self._before.generated_tokens + life.figures.generated_tokens,
            "prompt_tokens": self._before.prompt_tokens + life.figures.prompt_tokens,
            "tokens_per_s": life.tokens_per_s,
            "requests_running": life.figures.requests_running,
        }

    def end(self, life: Life) -> None:
        """Counts a life's figures for good."""
        self._before = Figures(
            generated_tokens=self._before.generated_tokens + life.figures.generated_tokens,
            prompt_tokens=self._before.prompt_tokens + life.figures.prompt_tokens,
        )

    def beat(self, every_s: float) -> None:
        """Rewrites the state where the last writing is older than `every_s`."""
        if time.monotonic() - self._beaten >= every_s:
            self._write()

    def _write(self) -> None:
        write_json(self._folder.state, self._state)
        self._beaten = time.monotonic()

    def announce(self, url: str, api_key: str, model: str, life: int) -> None:
        """Publishes where the server answers, for its owner's eyes only."""
        endpoint = {"url": url, "api_key": api_key, "model": model, "life": life}
        write_json(self._folder.endpoint, endpoint, mode=0o600)

    def withdraw(self) -> None:
        """Takes the endpoint back: gateways hold their requests."""
        self._folder.endpoint.unlink(missing_ok=True)


def address(host: str) -> str:
    """The address that others reach a listener on `host` by."""
    return socket.gethostname() if host == "0.0.0.0" else host
