"""Starting a gateway beside an evaluation, and ending it."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from pathlib import Path

from slurmeval.errors import ErrorClass, EvaluationFailed, SlurmevalError
from slurmeval.gateway.settings import GatewayConfig, GatewayReady, LogFailure
from slurmeval.gateway.writer import FAILED_FILE
from slurmeval.state.evaluation import GatewayProgress
from slurmeval.state.records import JsonObject, decode, read, write

READY_TIMEOUT_S = 120.0
"""Longest time from start to listening: the log of earlier tries is read, 65,000 requests in a second."""

STOP_TIMEOUT_S = 10.0
PROGRESS_TIMEOUT_S = 5.0
MODELS_TIMEOUT_S = 60.0
_POLL_S = 0.02


class GatewayFailed(SlurmevalError):
    """The gateway did not start."""


class GatewayProcess:
    """A gateway that listens. It ends with `stop`, or with this process."""

    def __init__(self, process: subprocess.Popen[bytes], config: GatewayConfig, ready: GatewayReady) -> None:
        self._process = process
        self._config = config
        self.url = ready.url
        self.port = int(self.url.rpartition(":")[2])
        self.api_key = ready.api_key
        self.pid = process.pid

    def alive(self) -> bool:
        """Returns whether its process runs."""
        return self._process.poll() is None

    def failure(self) -> EvaluationFailed | None:
        """Why the evaluation cannot end well any more, or None; to be raised.

        The gateway has ended or cannot log (harness_error); or the servers are lost, or answer errors
        to everything (server_lost).
        """
        if not self.alive():
            status = self._process.returncode
            return EvaluationFailed(ErrorClass.HARNESS_ERROR, f"the gateway ended with status {status}")
        if (failed := read(self._config.log / FAILED_FILE, LogFailure)) is not None:
            return EvaluationFailed(ErrorClass.HARNESS_ERROR, failed.reason)
        report = self.progress()  # a full disk may have had no room for the file
        if report is None or report.failure is None:
            return None
        return EvaluationFailed(report.failure_class or ErrorClass.HARNESS_ERROR, report.failure)

    def failing(self) -> EvaluationFailed | None:
        """Returns what the last requests failed of, or None where the last one was answered.

        It is the cause where a harness has ended badly.
        """
        report = self.progress()
        if report is None or report.failing is None:
            return None
        return EvaluationFailed(ErrorClass.SERVER_LOST, report.failing)

    def progress(self) -> GatewayProgress | None:
        """What it has done so far (see docs/gateway.md); None where it does not answer now."""
        report = self._get("/progress", PROGRESS_TIMEOUT_S)
        return None if report is None else decode(report, GatewayProgress)

    def context(self) -> int | None:
        """Tokens that the served model holds, as its server says; None: it does not."""
        try:
            length = (self._get("/v1/models", MODELS_TIMEOUT_S) or {})["data"][0]["max_model_len"]
        except (LookupError, TypeError):
            return None
        return length if isinstance(length, int) else None

    def _get(self, path: str, timeout_s: float) -> JsonObject | None:
        connection = http.client.HTTPConnection(self.url.partition("//")[2], timeout=timeout_s)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.api_key}"})
            report: JsonObject = json.loads(connection.getresponse().read())
            return report
        except (OSError, ValueError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def stop(self) -> None:
        """Ends it: the log is complete and on disk when this returns, and the file with its key gone."""
        if self.alive():
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._config.ready_file.unlink(missing_ok=True)

    def __enter__(self) -> GatewayProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(config: GatewayConfig, folder: Path, ready_timeout_s: float = READY_TIMEOUT_S) -> GatewayProcess:
    """Starts a gateway and waits until it listens.

    `folder` gets `gateway.json` (its config) and `gateway.log`. Raises GatewayFailed with the gateway's last
    words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config_file, log_file = folder / "gateway.json", folder / "gateway.log"
    write(config_file, config)
    config.ready_file.unlink(missing_ok=True)
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "slurmeval.gateway", str(config_file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + ready_timeout_s
    while time.monotonic() < deadline:
        ready = read(config.ready_file, GatewayReady)
        if ready is not None:
            return GatewayProcess(process, config, ready)
        if process.poll() is not None:
            raise GatewayFailed(f"the gateway did not start: {_last_line(log_file)}")
        time.sleep(_POLL_S)
    process.kill()
    process.wait()
    raise GatewayFailed(f"the gateway did not listen within {ready_timeout_s:g} s; see {log_file}")


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"it said nothing; see {path}"
