"""Containment of a program that a model wrote, so that it can do no harm.

It runs in namespaces of its own, in a root that holds only the system's libraries and the interpreter,
read-only, and a small /tmp in memory. It has no network, home, secrets, rights or environment, and limits on
time, memory, processes, files and output. Nothing is run if the kernel does not grant namespaces.
docs/harnesses.md says what this does not protect from.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from slurmeval.containment import contained
from slurmeval.containment.command import script_argv
from slurmeval.containment.interpreter import inspect
from slurmeval.errors import ErrorClass, EvaluationFailed

_GRACE_S = 10.0
"""After the time limit: for the containment to end itself, before it is ended from outside."""
_CHUNK_BYTES = 1 << 16
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}

# Reads a token and the program, runs it, and reports with the token, which the program cannot say by chance
_WRAPPER = """
import json, os, sys
def run():
    sys.path.append(%r)
    token = sys.stdin.readline().strip()
    source = sys.stdin.read()
    error = None
    try:
        exec(compile(source, "<program>", "exec"), {"__name__": "__main__"})
    except BaseException as caught:
        error = f"{type(caught).__name__}: {caught}"[:500]
    os.write(%d, json.dumps({"token": token, "error": error}).encode())
run()
sys.stdout.flush()
os._exit(0)
"""


@dataclass(frozen=True)
class Limits:
    """What a program may use."""

    timeout_s: float = 10.0
    """Wall-clock time from start to end."""
    memory_mb: int = 1024
    """Address space of each process."""
    disk_mb: int = 64
    """All files in /tmp together. They are in memory."""
    processes: int = 32
    files: int = 64
    output_bytes: int = 1 << 16
    """Output that is kept. The rest is read and dropped."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    passed: bool
    """It ran to its last line without an exception."""
    reason: str
    """"passed", or why not, in one line."""
    output: str

    @property
    def is_python(self) -> bool:
        """Whether it could be read as Python."""
        unreadable = ("SyntaxError", "IndentationError", "TabError", "UnicodeEncodeError")
        return not self.reason.startswith(unreadable)


def run(program: str, limits: Limits = DEFAULT_LIMITS, interpreter: Path | None = None) -> Outcome:
    """Runs `program` (Python source) to its end or its limits.

    Args:
        program: The source.
        limits: What it may use.
        interpreter: The Python that runs it; None: this one.

    Raises:
        EvaluationFailed: The containment cannot be built here (harness_error).
    """
    python = inspect(Path(sys.executable) if interpreter is None else interpreter)
    token = secrets.token_hex(16)
    status_read, status_write = os.pipe()
    command = [python.binary, "-I", "-B", "-X", "utf8", "-c", _WRAPPER % (python.packages, status_write)]
    try:
        with tempfile.TemporaryDirectory(prefix="slurmeval-program-") as root:
            order: dict[str, Any] = {
                "root": os.path.realpath(root),
                "temporary": None,
                "cwd": "/tmp",
                "reads": python.folders,
                "writes": [],
                "links": {},
                "network": False,
                "limits": asdict(limits),
                "status": status_write,
            }
            argv = script_argv(order, command)
            status, output, said = _run(argv, f"{token}\n{program}", limits, status_read, status_write)
    finally:
        os.close(status_read)
    if not said.startswith(contained.SET_UP):
        why = output.strip().splitlines()[-1] if output.strip() else f"status {status}"
        raise EvaluationFailed(
            ErrorClass.HARNESS_ERROR, f"code execution needs user namespaces or Apptainer, and here: {why}"
        )
    return _outcome(status, output, said[len(contained.SET_UP) :], token, limits)


def unavailable() -> str | None:
    """Returns why programs cannot be run here, in one line, or None if they can."""
    try:
        outcome = run("pass")
    except (EvaluationFailed, OSError) as error:
        return str(error)
    if outcome.passed:
        return None
    said = outcome.output.strip().rpartition("\n")[2]
    return f"contained Python does not run: {outcome.reason}{said and f', {said}'}"


def _run(
    argv: list[str], text: str, limits: Limits, status_read: int, status_write: int
) -> tuple[int, str, bytes]:
    """Returns the exit status, the output, and what came over the status descriptor."""
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(status_write,),
            env=_ENVIRONMENT,
            cwd="/",
        )
    finally:
        os.close(status_write)
    with child:
        assert child.stdin is not None and child.stdout is not None
        # What models write has lone surrogates in it, which Python then refuses as it does in any source
        data = text.encode(errors="surrogatepass")
        # In a thread of its own, because a large program does not fit into the pipe before it is read
        writer = threading.Thread(target=_write, args=(child.stdin, data), daemon=True)
        writer.start()
        kept = _drain([child.stdout.fileno(), status_read], limits)
        try:
            status = child.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            status = child.wait()
        writer.join()
    return status, kept[0].decode(errors="replace"), kept[1]


def _write(stream: IO[bytes], content: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # it ended before it read; its output says why
        stream.write(content)
        stream.close()


def _drain(descriptors: list[int], limits: Limits) -> list[bytes]:
    """Reads all to their end, or as long as a program may run, and returns the beginning of each."""
    kept = dict.fromkeys(descriptors, b"")
    left_s = limits.timeout_s + _GRACE_S
    with selectors.DefaultSelector() as selector:
        for descriptor in kept:
            selector.register(descriptor, selectors.EVENT_READ)
        deadline = _now() + left_s
        while selector.get_map() and (left_s := deadline - _now()) > 0:
            for key, _ in selector.select(left_s):
                data = os.read(key.fd, _CHUNK_BYTES)
                if not data:
                    selector.unregister(key.fd)
                kept[key.fd] += data[: limits.output_bytes - len(kept[key.fd])]
    return list(kept.values())


def _now() -> float:
    return os.times().elapsed


def _outcome(status: int, output: str, verdict: bytes, token: str, limits: Limits) -> Outcome:
    if status == contained.TIMED_OUT and not verdict:
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
