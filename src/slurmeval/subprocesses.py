"""Running a command that must not outlive its caller."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from slurmeval import parent_death

REPORT_INTERVAL_S = 10.0


def run_bound(
    argv: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    cwd: Path,
    waiting: Callable[[float], None] | None = None,
) -> tuple[int, str]:
    """Runs a command that is killed if this process ends.

    Args:
        argv: Program (a full path) and arguments.
        log: Gets the output appended.
        environment: All variables of the command.
        cwd: Its working directory.
        waiting: Called with the seconds so far every `REPORT_INTERVAL_S` seconds. What it raises ends the
            command.

    Returns exit status and output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        begin = stream.tell()
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", parent_death.__file__, str(os.getpid()), *argv],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=cwd,
        )
        try:
            while True:
                try:
                    returncode = process.wait(REPORT_INTERVAL_S)
                    break
                except subprocess.TimeoutExpired:
                    if waiting is not None:
                        waiting(time.monotonic() - started)
        except BaseException:
            process.kill()
            process.wait()
            raise
    with log.open("rb") as stream:
        stream.seek(begin)
        return returncode, stream.read().decode(errors="replace")
