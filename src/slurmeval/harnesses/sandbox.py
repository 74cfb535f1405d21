"""Runs a program that a model wrote, so that it can do no harm.

The program runs in namespaces of its own (user, mount, process, network, IPC, host name), in a root that
holds only the system's libraries and the interpreter, read-only, and a small /tmp in memory; without network,
home, secrets, rights or environment; with limits on time, memory, processes, files and output. Where the
kernel does not grant namespaces, nothing is run. What it does not protect from is in docs/harnesses.md."""

from __future__ import annotations

import json
import os
import secrets
import selectors
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from slurmeval.containment.interpreter import inspect
from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses import sandbox_child

_GRACE_S = 10.0
"""How long after its time the sandbox may take to end itself, before it is ended from outside."""
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Limits:
    """What a program may use."""

    timeout_s: float = 10.0
    """Wall-clock time from start to end."""
    memory_mb: int = 1024
    """Address space of each process."""
    disk_mb: int = 64
    """All files in /tmp together; they are in memory."""
    processes: int = 32
    files: int = 64
    output_bytes: int = 1 << 16
    """What is kept of its output; the rest is read and dropped."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    passed: bool
    """It ran to its last line without an exception."""
    reason: str
    """"passed", or why not, in one line."""
    output: str


def run(program: str, limits: Limits = DEFAULT_LIMITS, interpreter: Path | None = None) -> Outcome:
    """Runs `program` (Python source) to its end or its limits. `interpreter`: a Python, this one by default.
    Raises EvaluationFailed (harness_error) where the sandbox cannot be set up."""
    python = inspect(Path(sys.executable) if interpreter is None else interpreter)
    token = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="slurmeval-sandbox-") as root:
        order = {
            "program": program,
            "token": token,
            "root": os.path.realpath(root),
            "interpreter": python.binary,
            "packages": python.packages,
            "visible": python.folders,
            "timeout_s": limits.timeout_s,
            "memory_mb": limits.memory_mb,
            "disk_mb": limits.disk_mb,
            "processes": limits.processes,
            "files": limits.files,
        }
        status, output, verdict = _run_child(json.dumps(order).encode(), limits)
    if not verdict.startswith(sandbox_child.SET_UP):
        why = output.strip().splitlines()[-1] if output.strip() else f"status {status}"
        raise EvaluationFailed(
            ErrorClass.HARNESS_ERROR, f"code execution needs user namespaces or Apptainer, and here: {why}"
        )
    return _outcome(status, output, verdict[len(sandbox_child.SET_UP) :], token, limits)


def available() -> str | None:
    """None where programs can be run here; else what is lacking, in one line."""
    try:
        outcome = run("pass")
    except (EvaluationFailed, OSError) as error:
        return str(error)
    if outcome.passed:
        return None
    said = outcome.output.strip().rpartition("\n")[2]
    return f"the sandbox does not run Python: {outcome.reason}{said and f', {said}'}"


def _run_child(order: bytes, limits: Limits) -> tuple[int, str, bytes]:
    """(exit status, output, verdict) of the sandbox."""
    verdict_read, verdict_write = os.pipe()
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", sandbox_child.__file__, str(verdict_write)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(verdict_write,),
            env={"LANG": "C.UTF-8"},
            cwd="/",
        )
    except BaseException:
        os.close(verdict_read)
        raise
    finally:
        os.close(verdict_write)
    with child, os.fdopen(verdict_read, "rb") as verdict_stream:
        assert child.stdin is not None and child.stdout is not None
        try:
            child.stdin.write(order)
            child.stdin.close()
        except BrokenPipeError:
            pass  # It ended before it read; its output says why.
        kept = _drain([child.stdout, verdict_stream], limits)
        try:
            status = child.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            status = child.wait()
    return status, kept[0].decode(errors="replace"), kept[1]


def _drain(streams: list[IO[bytes]], limits: Limits) -> list[bytes]:
    """Reads all streams to their end, or as long as a program may run, and keeps the beginning of each."""
    kept = {stream.fileno(): b"" for stream in streams}
    left_s = limits.timeout_s + _GRACE_S
    with selectors.DefaultSelector() as selector:
        for descriptor in kept:
            selector.register(descriptor, selectors.EVENT_READ)
        deadline = _now() + left_s
        while selector.get_map() and (left_s := deadline - _now()) > 0:
            for key, _ in selector.select(left_s):
                data = os.read(key.fd, _CHUNK)
                if not data:
                    selector.unregister(key.fd)
                kept[key.fd] += data[: limits.output_bytes - len(kept[key.fd])]
    return list(kept.values())


def _now() -> float:
    return os.times().elapsed


def _outcome(status: int, output: str, verdict: bytes, token: str, limits: Limits) -> Outcome:
    if status == sandbox_child.TIMED_OUT and not verdict:
        return Outcome(False, f"timed out after {limits.timeout_s:g} s", output)
    try:
        said = json.loads(verdict)
    except ValueError:
        said = None
    if not isinstance(said, dict) or said.get("token") != token:
        how = f"killed by signal {status - 128}" if status > 128 else f"it ended with status {status}"
        return Outcome(False, f"did not run to its end: {how}", output)
    error = said["error"]
    return Outcome(error is None, "passed" if error is None else str(error), output)
