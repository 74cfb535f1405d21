"""Process of a harness: started where its runtime says, ended with everything that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from slurmeval.containment.scratch_dir import ScratchDir
from slurmeval.harnesses.base import Command, Job
from slurmeval.harnesses.runtimes import Contained
from slurmeval.parent_death import signal_at_parent_death

STOP_TIMEOUT_S = 10.0
"""How long a harness may take to end after SIGTERM."""


def start(job: Job, command: Command, scratch: ScratchDir, port: int, log: Path) -> subprocess.Popen[bytes]:
    """Starts it; `log` gets what it writes. `scratch` has its gateway's socket; that listens on `port`."""
    reads = [job.tokenizer, *job.datasets.values()]
    writes = [job.folder]
    if job.prepared is not None:
        reads.append(job.prepared)
    if job.hub is not None:
        (writes if job.online else reads).append(job.hub)
    contained = Contained(
        cwd=command.cwd,
        home=command.cwd / "home",
        reads=tuple(reads),
        writes=tuple(writes),
        scratch=scratch,
        port=port,
        network=job.benchmark.network or job.online,
        hostile=command.hostile,
    )
    argv, env = command.argv, command.env | {"TMPDIR": str(scratch.temporary)}
    if not command.own:
        argv, env = job.runtime.command(argv, env, contained)
    log.unlink(missing_ok=True)  # a mode counts for new files only
    # Harnesses may write their variables into their logs: only the owner reads them
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        return subprocess.Popen(
            argv,
            env=env,
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            preexec_fn=lambda: signal_at_parent_death(signal.SIGTERM),
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends whatever is left of it: its children too, which may outlive it."""
    for sign, timeout_s in ((signal.SIGTERM, STOP_TIMEOUT_S), (signal.SIGKILL, STOP_TIMEOUT_S)):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)
    process.wait()
