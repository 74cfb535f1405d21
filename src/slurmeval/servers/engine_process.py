"""An engine as a process: started in a session of its own, and ended with everything that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from slurmeval.engines.base import Engine
from slurmeval.engines.failures import TAIL_BYTES, Failure, classify, over_memory_limit
from slurmeval.engines.starting import start_parts
from slurmeval.errors import ErrorClass
from slurmeval.parent_death import signal_at_parent_death

MOST_OF_START = 2**24
"""Bytes of a log that are looked through for lines about the start."""


def _prepare() -> None:
    """Runs in the child.

    Slurm's signal before the job's time ends may reach all processes of the job, and would kill the
    engine.
    """
    signal_at_parent_death(signal.SIGTERM)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


class EngineProcess:
    """One process of an engine and its workers."""

    def __init__(
        self,
        engine: Engine,
        argv: list[str],
        environment: dict[str, str],
        log: Path,
        holds: contextlib.ExitStack | None = None,
    ) -> None:
        """Starts it, appending its output to `log`; `holds` is closed once nothing of it is left.

        Raises:
            OSError: The interpreter cannot be run.
        """
        self._engine, self._log, self._holds = engine, log, holds or contextlib.ExitStack()
        self._ended = threading.Event()
        self._killed_for_memory = killed_for_memory()
        with log.open("ab") as stream:
            self._log_start = stream.tell()
            self._process = subprocess.Popen(
                argv,
                env=environment,
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                preexec_fn=_prepare,
            )
        threading.Thread(target=self._watch, name=f"watch {self.pid}", daemon=True).start()

    def _watch(self) -> None:
        with contextlib.suppress(ChildProcessError):  # another thread has seen it first
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self._ended.set()

    @property
    def pid(self) -> int:
        """Its process number, and that of its session."""
        return self._process.pid

    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended; returns as soon as it has, after `timeout_s` at the latest."""
        return self._ended.wait(timeout_s)

    def processes(self) -> list[int]:
        """It and everything that it started."""
        return session_members(self.pid)

    def start_parts(self) -> dict[str, float]:
        """Seconds of its start by what they went into, as far as its log tells."""
        with self._log.open("rb") as stream:
            stream.seek(self._log_start)
            return start_parts(self._engine.start_lines, stream.read(MOST_OF_START).decode(errors="replace"))

    def log_tail(self) -> str:
        """The end of what this process has written."""
        with self._log.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(self._log_start, end - TAIL_BYTES))
            return stream.read().decode(errors="replace")

    def failure(self) -> Failure:
        """Why it ended by itself."""
        engine = self._engine
        failure = classify(
            self.log_tail(),
            self.returncode(),
            engine=engine.name,
            known_failures=engine.known_failures,
            consequences=engine.consequences,
        )
        if killed_for_memory() > self._killed_for_memory and failure.error_class != ErrorClass.OUT_OF_MEMORY:
            return over_memory_limit(engine.name, failure.retryable)
        return failure

    def end(self, grace_s: float) -> None:
        """SIGTERM, and after `grace_s` SIGKILL, to all of it. Returns when nothing of it is left."""
        self._signal(signal.SIGTERM)
        self._wait(grace_s)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to all of it: also to workers whose parent has died before them."""
        self._signal(signal.SIGKILL)
        self._wait(10.0)
        self._holds.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(pid) != self.pid:
                    os.kill(pid, number)

    def _wait(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            left = self.processes()
            self._process.poll()  # not before: it may have ended meanwhile, and would stay a zombie
            if not left:
                return
            time.sleep(0.05)


def session_members(session: int) -> list[int]:
    """The processes of a session that have not ended (zombies have)."""
    members = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            members.append(int(entry.name))
    return members


def killed_for_memory(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int:
    """Returns how many processes of this process's control group the kernel has killed for want of memory.

    At the limit of a job, nobody else says so.
    """
    with contextlib.suppress(OSError):
        for line in groups.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            names = {"": ("", "memory.events"), "memory": ("memory", "memory.oom_control")}
            if controllers not in names:
                continue
            mount, file = names[controllers]
            with contextlib.suppress(OSError):
                text = (root / mount / path.lstrip("/") / file).read_text(encoding="utf-8")
                counted = dict(line.split() for line in text.splitlines())
                return int(counted.get("oom_kill", 0))
    return 0
