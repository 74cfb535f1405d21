"""Evaluations inside their server's job, for clusters where they cannot be jobs of their own.

A request is a file in the model's folder `state/colocated/<model>/`; its suffix says how far it is: `.json`
asked for, `.running`, `.done`. The controller makes the first, the supervisor the others.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from slurmeval.files import read_json, write_json

REQUESTED, RUNNING, DONE = ".json", ".running", ".done"

SCORING_S = 900.0
"""How long evaluations may take to score and write when the server has ended."""

log = logging.getLogger(__name__)


def request(folder: Path, benchmark: str, command: str, log_file: Path) -> None:
    """Asks for an evaluation. `command` is for a shell."""
    for suffix in (RUNNING, DONE):
        (folder / f"{benchmark}{suffix}").unlink(missing_ok=True)
    write_json(folder / f"{benchmark}{REQUESTED}", {"command": command, "log": str(log_file)})


def take_back(folder: Path, benchmark: str) -> bool:
    """Withdraws a request; False where it has begun."""
    try:
        (folder / f"{benchmark}{REQUESTED}").unlink()
    except FileNotFoundError:
        return False
    return True


def status(folder: Path, benchmark: str) -> int | None:
    """The exit status of an evaluation that has ended; None before."""
    try:
        content = read_json(folder / f"{benchmark}{DONE}")
    except ValueError:
        return None
    return None if content is None else int(content["status"])


class ColocatedEvaluations:
    """The evaluations that one supervisor runs. None of them where `folder` is None."""

    def __init__(self, folder: str | None) -> None:
        self._folder = None if folder is None else Path(folder)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        if self._folder is not None:  # those of a job that was requeued begin anew
            for file in self._folder.glob(f"*{RUNNING}"):
                file.rename(file.with_suffix(REQUESTED))

    def look(self) -> None:
        """Starts what is asked for, and says what has ended."""
        if self._folder is None:
            return
        for benchmark, process in list(self._processes.items()):
            if process.poll() is not None:
                del self._processes[benchmark]
                write_json(self._folder / f"{benchmark}{DONE}", {"status": process.returncode})
                (self._folder / f"{benchmark}{RUNNING}").unlink(missing_ok=True)
                log.info("evaluation %s ended with status %d", benchmark, process.returncode)
        for file in self._folder.glob(f"[!.]*{REQUESTED}"):
            if file.stem not in self._processes:
                self._start(file)

    def _start(self, file: Path) -> None:
        running = file.with_suffix(RUNNING)
        try:
            file.rename(running)
        except FileNotFoundError:  # taken back
            return
        asked = read_json(running)
        with Path(asked["log"]).open("ab") as stream:
            self._processes[file.stem] = subprocess.Popen(
                ["bash", "-c", asked["command"]],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        log.info("evaluation %s started", file.stem)

    def finish(self) -> None:
        """Waits for those that run, once the server has no more to do for them."""
        deadline = time.monotonic() + SCORING_S
        while self._processes and time.monotonic() < deadline:
            self.look()
            time.sleep(0.1)
        self.kill()

    def kill(self) -> None:
        """Ends those that run as if their node had died.

        What was answered is kept; the next run of the job begins them anew.
        """
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()
