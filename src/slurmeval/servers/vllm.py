"""vLLM as a process: started in a group of its own, and ended with everything that it started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from slurmeval.servers.failures import TAIL_BYTES
from slurmeval.servers.spec import ServerSpec, vllm_argv, vllm_environment

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def free_port(host: str) -> int:
    """A TCP port that nobody listens on now. Another may take it before vLLM does: vLLM then says so."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent() -> None:
    """In the child: SIGTERM when the supervisor is gone, however it went."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Vllm:
    """One process of vLLM and its workers."""

    def __init__(self, spec: ServerSpec, port: int, api_key: str, log: Path) -> None:
        """Starts it, appending its output to `log`. Raises OSError where the interpreter cannot be run."""
        self._log = log
        with log.open("ab") as stream:
            self._log_start = stream.tell()
            self._process = subprocess.Popen(
                vllm_argv(spec, port),
                env=vllm_environment(spec, os.environ, api_key),
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self) -> int:
        """Its process number, and that of its group."""
        return self._process.pid

    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def log_tail(self) -> str:
        """The end of what this process has written."""
        with self._log.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(self._log_start, end - TAIL_BYTES))
            return stream.read().decode(errors="replace")

    def end(self, grace_s: float) -> None:
        """SIGTERM, and after `grace_s` SIGKILL, to the whole group. Returns when nothing of it is left."""
        self._signal(signal.SIGTERM)
        self._wait(grace_s)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the whole group: also to workers whose parent has died before them."""
        self._signal(signal.SIGKILL)
        self._wait(10.0)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _wait(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._process.poll()
            if not group_members(self.pid):
                return
            time.sleep(0.05)


def group_members(group: int) -> list[int]:
    """The processes of a process group that have not ended (zombies have)."""
    members = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            members.append(int(entry.name))
    return members
