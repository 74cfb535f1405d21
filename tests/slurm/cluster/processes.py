"""Which processes belong to the cluster. They are known by what they see, not by ids written down, so that
nothing is missed after a crash and nobody else's process is taken for ours."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from tests.slurm.cluster.commands import run, wait_until
from tests.slurm.cluster.layout import HOSTS, NODES, Layout

NETWORKS = Path("/run/netns")


@dataclass(frozen=True)
class Process:
    """A process of a host of the cluster."""

    pid: int  # as the machine counts
    pid_on_host: int  # as the host counts: its first process is 1
    name: str
    command: str


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _process(pid: int) -> Process | None:
    """None when it has ended, zombies included."""
    try:
        status = _status(pid)
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    if status["State"].startswith("Z"):
        return None
    return Process(pid, int(status["NSpid"].split()[-1]), status["Name"], command.strip())


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def all_of(layout: Layout) -> list[Process]:
    """Processes that see the cluster's configuration as /etc/slurm, or are in its networks."""
    with contextlib.suppress(FileNotFoundError):
        etc = layout.etc.stat()
        found = []
        for pid in _pids():
            with contextlib.suppress(OSError):
                if os.path.samestat(Path(f"/proc/{pid}/root/etc/slurm").stat(), etc):
                    found.append(pid)
        return [process for process in map(_process, found) if process]
    return [process for host in HOSTS for process in of_host(layout, host)]


def of_host(layout: Layout, host: str) -> list[Process]:
    """Processes in a host's network. Not for the login host, which uses the machine's."""
    name = layout.network(host)
    if not (NETWORKS / name).exists():
        return []
    pids = run(["ip", "netns", "pids", name]).split()
    return [process for process in map(_process, map(int, pids)) if process]


def first_of_node(layout: Layout, node: str) -> Process | None:
    """The node's first process: when it dies, all of the node's processes do."""
    return next((process for process in of_host(layout, node) if process.pid_on_host == 1), None)


def named(layout: Layout, name: str) -> list[Process]:
    """The cluster's processes of that program."""
    return [process for process in all_of(layout) if process.name == name]


def kill(processes: list[Process]) -> None:
    """SIGKILL; those that are gone already are no error."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def kill_all(layout: Layout) -> None:
    """Kills every process of the cluster, and those they start meanwhile."""

    def gone() -> bool:
        left = all_of(layout)
        kill(left)
        return not left

    wait_until(gone, "the cluster's processes to end", 10)


def of_jobs(layout: Layout) -> dict[str, list[Process]]:
    """By node: what runs there beyond its first process and Slurm's own: slurmstepd outlives a job whose end
    it cannot report."""
    found = {}
    for node in NODES:
        found[node] = [
            process
            for process in of_host(layout, node)
            if process.pid_on_host != 1 and process.name not in ("slurmd", "slurmstepd", "unshare")
        ]
    return {node: processes for node, processes in found.items() if processes}
