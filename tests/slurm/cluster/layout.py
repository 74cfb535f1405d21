"""What the cluster is made of, and where everything lies: all names in one place."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

GPU_NODES = ("gpu1", "gpu2")
CPU_NODES = ("cpu1", "cpu2")
NODES = (*GPU_NODES, *CPU_NODES)
GPUS_PER_NODE = 4
# Last byte of each host's address
HOSTS = {"head": 1, "login": 2, "gpu1": 11, "gpu2": 12, "cpu1": 21, "cpu2": 22}
STRANGER = "mallory"
STRANGER_ID = 64077
CGROUPS = Path("/sys/fs/cgroup")
# What Slurm's process tracking and memory limits use
CONTROLLERS = ("freezer", "memory")


@dataclass(frozen=True)
class Layout:
    """The places of one cluster. All lie in its base folder, which belongs to it and goes with it."""

    base: Path

    @property
    def marker(self) -> Path:
        """Says that the folder is a cluster's, and may be deleted."""
        return self.base / "slurmeval-test-cluster"

    @property
    def prefix(self) -> str:
        """Begins the names of what the machine's clusters share (8 characters)."""
        return "se" + hashlib.sha256(str(self.base).encode()).hexdigest()[:6]

    @property
    def etc(self) -> Path:
        """Slurm's configuration: /etc/slurm on every host of the cluster."""
        return self.base / "etc"

    @property
    def logs(self) -> Path:
        return self.base / "log"

    @property
    def spool(self) -> Path:
        return self.base / "spool"

    @property
    def state(self) -> Path:
        """The controller's memory of its jobs."""
        return self.base / "state"

    @property
    def database(self) -> Path:
        return self.base / "database"

    @property
    def devices(self) -> Path:
        """The fake GPUs' device files."""
        return self.base / "dev"

    @property
    def filesystems(self) -> Path:
        """What is mounted in here is seen by every host."""
        return self.base / "filesystems"

    @property
    def on(self) -> Path:
        """The command that runs a command on a host: `on HOST COMMAND...`."""
        return self.base / "on"

    @property
    def login(self) -> Path:
        """The command that runs a command on the login host: `login COMMAND...`."""
        return self.base / "login"

    @property
    def host_script(self) -> Path:
        return self.base / "host.sh"

    def first_process(self, host: str) -> Path:
        """File with the process id, on the machine, of a host's first process."""
        return self.base / "run" / f"{host}.pid"

    def network(self, host: str) -> str:
        """Name of the host's network namespace. The login host has none: it uses the machine's."""
        return f"{self.prefix}-{host}"

    def cgroup(self, controller: str, node: str) -> Path:
        return CGROUPS / controller / f"{self.prefix}-{node}"

    def make_folders(self) -> None:
        """Makes the base folder and its parts, passable for every user of the nodes."""
        self.base.mkdir(parents=True, exist_ok=True)
        self.base.chmod(0o755)
        self.marker.touch()
        for folder in (self.etc, self.logs, self.spool, self.state, self.database, self.devices):
            folder.mkdir()
        for folder in (self.filesystems, self.base / "run"):
            folder.mkdir()
