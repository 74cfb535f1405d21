"""A real Slurm cluster on one machine: what tests do with it."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tests.slurm.cluster import (
    configuration,
    filesystems,
    hosts,
    network,
    packages,
    processes,
    requirements,
    services,
)
from tests.slurm.cluster.commands import ClusterError, one_at_a_time, run, succeeds, wait_until
from tests.slurm.cluster.layout import NODES, STRANGER, Layout
from tests.slurm.cluster.looks import Looks


class Cluster(Looks):
    """Hosts `head` (Slurm's services), `login`, `gpu1`, `gpu2` (4 H100 each, fake), `cpu1` and `cpu2`.

    Each has its own name, network and mounts; nodes have their own processes too, and reach nothing outside.
    `login` is on the machine's network. All share one file system, so the base folder and the tests' folders
    are the same everywhere, but for /dev/shm.

    Partitions: `cpu` (the default), `gpu`, `gpu-short` (5 minutes at most), and `gpu-high`, which preempts
    jobs of the other two: their steps get SIGTERM; after 10 s or more, all of them gets SIGTERM, 5 s later
    SIGKILL, and they are requeued. Account `acct1`, QOS `normal` and `high`."""

    def __init__(self, base: Path) -> None:
        super().__init__(Layout(base.resolve()))
        self.base = self._layout.base

    # Life

    @classmethod
    def up(cls, base: Path) -> Cluster:
        """Makes the cluster, its packages included, and waits until its nodes are idle. One that is up there
        already is used as it is; what a killed one left is removed first."""
        requirements.check()
        with one_at_a_time():
            cluster = cls(base)
            if cluster.is_up():
                return cluster
            packages.install()
            cluster._remove()
            if cluster.base.exists() and any(cluster.base.iterdir()):
                raise ClusterError(f"{base} is not empty and is no test cluster's: name another folder")
            if len(str(cluster.base).split()) != 1:
                raise ClusterError(
                    f"{base}: Slurm's configuration has no room for spaces: name another folder"
                )
            try:
                cluster._make()
            except BaseException as error:
                logs = cluster._last_words()
                cluster._remove()
                if isinstance(error, ClusterError):
                    raise ClusterError(f"{error}\n{logs}") from error
                raise
        return cluster

    @classmethod
    def attach(cls, base: Path) -> Cluster:
        """The cluster that is up in that folder."""
        cluster = cls(base)
        if not cluster.is_up():
            raise ClusterError(
                f"no cluster is up in {base}: make one with `scripts/test-cluster up --base {base}`"
            )
        return cluster

    def is_up(self) -> bool:
        """Whether the controller answers and every node has its first process."""
        if not self._layout.marker.exists() or not succeeds([self._layout.on, "head", "scontrol", "ping"]):
            return False
        return all(processes.first_of_node(self._layout, node) for node in NODES)

    def down(self) -> None:
        """Removes the cluster with all its processes, networks, mounts, control groups and files. Works from
        any process, on whatever is left of it."""
        with one_at_a_time():
            self._remove()

    def _remove(self) -> None:
        layout = self._layout
        processes.kill_all(layout)
        network.remove(layout)
        hosts.remove_control_groups(layout)
        filesystems.remove(layout)
        if layout.marker.exists():
            shutil.rmtree(self.base)

    def _make(self) -> None:
        layout = self._layout
        layout.make_folders()
        filesystems.prepare(layout)
        subnet = network.free_subnet()
        configuration.write(layout, subnet, memory_limits=configuration.cgroups_v1())
        network.make(layout, subnet)
        hosts.write_commands(layout)
        for host in ("head", "login"):
            hosts.start(layout, host)
        services.start_munge(layout)
        services.prepare_database(layout)
        services.start_database(layout)
        services.start_slurmdbd(layout)
        services.register_users(layout)
        services.start_slurmctld(layout)
        for node in NODES:
            hosts.boot(layout, node)
        self.wait_idle()

    def _last_words(self, lines: int = 5) -> str:
        """The end of every log."""
        told = []
        for log in sorted(self._layout.logs.glob("*")):
            if end := log.read_text(errors="replace").splitlines()[-lines:]:
                told.append("\n  ".join([f"{log.name}:", *end]))
        return "\n".join(told)

    # Commands

    def on(self, host: str, argv: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a command on a host and waits for it. Options are those of subprocess.run; the output is
        captured and the exit code is yours to check. 69: the host is down."""
        defaults: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 60, "check": False}
        if {"stdout", "stderr"} & options.keys():
            del defaults["capture_output"]
        return subprocess.run([self._layout.on, host, *map(str, argv)], **{**defaults, **options})

    def popen_on(self, host: str, argv: Sequence[str | Path], **options: Any) -> subprocess.Popen[str]:
        """Starts a command on a host. On a node, it is killed when the Popen's process is."""
        return subprocess.Popen([self._layout.on, host, *map(str, argv)], **{"text": True, **options})

    def login(self, argv: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
        """`on` the login host."""
        return self.on("login", argv, **options)

    def popen_login(self, argv: Sequence[str | Path], **options: Any) -> subprocess.Popen[str]:
        """`popen_on` the login host; the Popen's process is the command itself, and gets its signals."""
        return self.popen_on("login", argv, **options)

    def run_as_stranger(
        self, host: str, argv: Sequence[str | Path], **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """`on`, as the user `mallory`, who has no rights but those of everybody (and may submit jobs)."""
        user = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", "--inh-caps=-all"]
        return self.on(host, [*user, *argv], **options)

    def submit(self, *arguments: str, script: str | None = None) -> str:
        """`sbatch` on the login host, and the job's id. The script is handed over on standard input."""
        command: list[str | Path] = [self._layout.login, "sbatch", "--parsable", *arguments]
        return run(command, stdin=script).strip().split(";")[0]

    # Faults

    def kill_node(self, node: str) -> None:
        """Crashes the node with all its jobs: whoever talks to it hears nothing any more, not even that the
        connection ended. Slurm notices by itself, about 20 s later."""
        network.cut(self._layout, node)
        hosts.crash(self._layout, node)

    def report_down(self, node: str) -> None:
        """Tells Slurm that the node is down: its jobs end as NODE_FAIL and are requeued, at once."""
        self.ask(["scontrol", "update", f"nodename={node}", "state=down", "reason=test"])

    def boot_node(self, node: str) -> None:
        """Starts a node that was killed, as soon as Slurm has noticed its death, and waits until Slurm
        uses it again. (Were it back sooner, Slurm would think its jobs alive. Real ones take minutes.)"""
        wait_until(lambda: self.node_states()[node].startswith("down"), f"Slurm to miss {node}", 60)
        network.restore(self._layout, node)
        hosts.boot(self._layout, node)
        self.resume(node)

    def cut_network(self, node: str) -> None:
        """Pulls the node's plug: its jobs go on, unheard."""
        network.cut(self._layout, node)

    def restore_network(self, node: str) -> None:
        network.restore(self._layout, node)

    def stop_slurmctld(self, *, crash: bool = False) -> None:
        """Ends the controller: Slurm's commands fail, jobs go on. In a crash (SIGKILL) it forgets the last
        seconds: jobs that were just submitted may be unknown, and cancelled ones back."""
        services.stop(self._layout, "slurmctld", signal.SIGKILL if crash else signal.SIGTERM)

    def start_slurmctld(self) -> None:
        services.start_slurmctld(self._layout)

    def stop_slurmdbd(self) -> None:
        """Kills accounting (SIGKILL): sacct fails, jobs go on."""
        services.stop(self._layout, "slurmdbd", signal.SIGKILL)

    def start_slurmdbd(self) -> None:
        services.start_slurmdbd(self._layout)

    def drain(self, node: str) -> None:
        """No new jobs for the node."""
        self.ask(["scontrol", "update", f"nodename={node}", "state=drain", "reason=test"])

    def resume(self, node: str, deadline_s: float = 90) -> None:
        """Takes the node back, whatever state it is in, and waits until it is fit for jobs."""

        def fit() -> bool:
            state = self.node_states()[node]
            if state in ("idle", "mixed", "allocated", "completing"):
                return True
            # Refused as long as the node has not reported
            if not state.endswith("*"):
                succeeds([self._layout.login, "scontrol", "update", f"nodename={node}", "state=resume"])
            return False

        wait_until(fit, f"{node} to be fit for jobs", deadline_s)

    def small_filesystem(self, path: Path, size_bytes: int) -> AbstractContextManager[Path]:
        """With it, `path` (where nothing may be) is a link to an empty file system of that size: on all
        hosts, and on the machine."""
        return filesystems.small(self._layout, path, size_bytes)

    def restore(self) -> list[str]:
        """Ends every fault, cancels every job, and waits until the cluster is idle. Tells the jobs
        and the processes that were left."""
        for service, start in (("slurmdbd", self.start_slurmdbd), ("slurmctld", self.start_slurmctld)):
            if not services.running(self._layout, service):
                start()
        for node in NODES:
            self.restore_network(node)
            if processes.first_of_node(self._layout, node) is None:
                hosts.boot(self._layout, node)
        for node in NODES:
            self.resume(node)
        # One that is completing has ended
        jobs = [job for job in self.jobs() if job["state"] != "COMPLETING"]
        if jobs:
            self.ask(["scancel", *(job["id"] for job in jobs)])
        self.wait_idle()
        processes_left = self.processes_of_jobs()
        for left in processes_left.values():
            processes.kill(left)
        return [f"job {job['id']} ({job['name']}, {job['state']})" for job in jobs] + [
            f"{process.command} on {node}" for node, left in processes_left.items() for process in left
        ]
