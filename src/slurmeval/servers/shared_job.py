"""Several small servers in one job, on clusters that give nodes whole.

Each has a supervisor of its own, in a process of its own, and its share of the job's GPUs. The job ends when
all have ended.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from slurmeval.errors import SlurmevalError
from slurmeval.parent_death import signal_at_parent_death
from slurmeval.servers.folder import ServerFolder
from slurmeval.servers.job import BatchJob, SigtermCause
from slurmeval.servers.supervisor import Supervisor
from slurmeval.state.records import load, read, write
from slurmeval.state.server import ServerState, ServerStatus, failed
from slurmeval.state.server_spec import ServerSpec

log = logging.getLogger(__name__)

DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
"""Variables that name the GPUs of a job, by number or by UUID."""

STARTS = 3
"""How often a supervisor is started that ends without having closed its server."""

POLL_S = 0.2


class SharedSupervisors:
    """What submitit runs for several servers in one job."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = [Path(folder) for folder in folders]
        self._members: dict[Path, subprocess.Popen[bytes]] = {}
        self._terminated = False

    def __call__(self) -> str:
        """Runs the servers to their ends."""
        signal.signal(signal.SIGTERM, self._on_signal)
        specs = [load(ServerFolder(folder).spec, ServerSpec) for folder in self.folders]
        shares = dict(zip(self.folders, shares_of([spec.gpus for spec in specs], os.environ), strict=True))
        starts = dict.fromkeys(self.folders, 0)
        while True:
            for folder in self._without_supervisor():
                if starts[folder] == STARTS:
                    _give_up(ServerFolder(folder))
                    continue
                starts[folder] += 1
                self._members[folder] = _start(folder, shares[folder])
            if not self._running():
                return ServerStatus.STOPPED
            if self._terminated:
                return self._terminate(BatchJob.of(specs[0]))
            time.sleep(POLL_S)

    def checkpoint(self) -> Any:
        """Has all servers drain; those that are not closed start again with the job.

        Submitit calls this before the job's time ends or when it is preempted.
        """
        import submitit

        self._tell(signal.SIGUSR2)
        self._wait()
        return submitit.helpers.DelayedSubmission(SharedSupervisors(self.folders))

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._terminated = True

    def _terminate(self, job: BatchJob) -> str:
        """After SIGTERM, which every member takes as a single server does."""
        self._tell(signal.SIGTERM)
        cause, _ = job.sigterm_cause()
        if cause is SigtermCause.PREEMPTED:
            signal.raise_signal(signal.SIGUSR2)  # submitit calls `checkpoint`, requeues the job, and leaves
        self._wait()
        if cause is SigtermCause.REQUEUED:
            raise SystemExit(0)
        return ServerStatus.STOPPED

    def _without_supervisor(self) -> Iterator[Path]:
        for folder in self.folders:
            member = self._members.get(folder)
            ended = member is None or member.poll() is not None
            if ended and not self._terminated and not ServerFolder(folder).closed.exists():
                yield folder

    def _running(self) -> list[subprocess.Popen[bytes]]:
        return [member for member in self._members.values() if member.poll() is None]

    def _tell(self, number: signal.Signals) -> None:
        for member in self._running():
            member.send_signal(number)

    def _wait(self) -> None:
        for member in self._members.values():
            member.wait()


def shares_of(gpus: Sequence[int], environment: Mapping[str, str]) -> list[dict[str, str]]:
    """The variables that give each server its GPUs, one after another, of those that the job has.

    Empty where the job names none. Raises SlurmevalError where it has too few.
    """
    shares: list[dict[str, str]] = [{} for _ in gpus]
    for name in DEVICES:
        devices = [device for device in environment.get(name, "").split(",") if device]
        if not devices:
            continue
        if len(devices) < sum(gpus):
            raise SlurmevalError(f"the job has {len(devices)} GPUs, and its servers need {sum(gpus)}")
        for share, count in zip(shares, gpus, strict=True):
            share[name] = ",".join(devices[:count])
            devices = devices[count:]
    return shares


def _start(folder: Path, share: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "slurmeval.servers.shared_job", str(folder)],
        env={**os.environ, **share},
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Slurm's signals reach it through this process alone
        preexec_fn=lambda: signal_at_parent_death(signal.SIGKILL),
    )


def _give_up(folder: ServerFolder) -> None:
    reason = f"its supervisor was killed {STARTS} times"
    write(folder.state, failed(reason, read(folder.state, ServerState)))
    folder.closed.touch()


def main() -> None:
    """One server of a shared job: `python -m slurmeval.servers.shared_job <server folder>`."""
    supervisor = Supervisor(Path(sys.argv[1]))

    def suspend(_signal: int, _frame: FrameType | None) -> None:
        supervisor.suspend()
        sys.exit(0)

    signal.signal(signal.SIGUSR2, suspend)
    supervisor()


if __name__ == "__main__":
    main()
