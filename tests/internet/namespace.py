"""The network of the tests' internet: one host, on which all of its services listen.

Only this machine has a way to it, and so has the test cluster's login host, which is on the machine's
network. The cluster's nodes have none. Its names are known to what `online COMMAND...` runs, and to nobody
else."""

from __future__ import annotations

import ctypes
import hashlib
import ipaddress
import json
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.slurm.cluster import network
from tests.slurm.cluster.commands import ClusterError, one_at_a_time, run, succeeds, wait_until
from tests.slurm.cluster.processes import NETWORKS

HERE = Path(__file__).parent
CLONE_NEWNET = 0x40000000
FIRST_BYTES = "10.78"


class Internet:
    """`folder` is its own, and goes with it. Use `up`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.prefix = "si" + hashlib.sha256(str(self.folder).encode()).hexdigest()[:6]
        self.namespace = f"{self.prefix}-inet"
        self.link = f"{self.prefix}-host"

    # Life

    @classmethod
    def up(cls, folder: Path) -> Internet:
        """Makes the network; one that is up there already is used as it is."""
        internet = cls(folder)
        with one_at_a_time():
            if internet.is_up():
                return internet
            internet._remove()
            internet.folder.mkdir(parents=True, exist_ok=True)
            internet.folder.chmod(0o755)
            try:
                internet._make()
            except BaseException:
                internet._remove()
                raise
        return internet

    def is_up(self) -> bool:
        return (NETWORKS / self.namespace).exists() and self._address_file.exists()

    def down(self) -> None:
        """Removes it with all its processes and files; also what is left of a killed one."""
        with one_at_a_time():
            self._remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make(self) -> None:
        subnet = network.free_subnet(first=FIRST_BYTES)
        here, there = subnet.network_address + 1, subnet.network_address + 2
        run(["ip", "netns", "add", self.namespace])
        run(["ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.namespace])
        # No packet that nobody asked for: what `packets` counts is use
        quiet = "net.ipv6.conf.{}.disable_ipv6=1"
        run(["sysctl", "-q", "-w", quiet.format(self.link)])
        run([*self._inside, "sysctl", "-q", "-w", quiet.format("eth0")])
        up = f"link set lo up\naddress add {there}/24 dev eth0\nlink set eth0 up\n"
        run(["ip", "-netns", self.namespace, "-batch", "-"], stdin=up)
        run(["ip", "-batch", "-"], stdin=f"address add {here}/24 dev {self.link}\nlink set {self.link} up\n")
        self._address_file.write_text(str(there))
        self._know_each_other()
        shutil.copy(HERE / "online.sh", self.online)
        self.online.chmod(0o755)
        (self.folder / "private").mkdir(exist_ok=True)
        self._names.touch()
        self._variables.touch()

    def _know_each_other(self) -> None:
        """Keeps both ends from asking for each other's hardware address, which they do seconds after use."""
        there = ipaddress.ip_address(self._address_file.read_text())
        # Not from /sys, which may be that of another network
        shown = run(["ip", "-netns", self.namespace, "-json", "link", "show", "eth0"])
        inside = json.loads(shown)[0]["address"]
        outside = Path(f"/sys/class/net/{self.link}/address").read_text().strip()
        neighbour = "neigh replace {} lladdr {} dev {} nud permanent\n"
        run(["ip", "-batch", "-"], stdin=neighbour.format(there, inside, self.link))
        known = neighbour.format(there - 1, outside, "eth0")
        run(["ip", "-netns", self.namespace, "-batch", "-"], stdin=known)

    def _remove(self) -> None:
        if (NETWORKS / self.namespace).exists():
            wait_until(self._no_process, "the internet's processes to end", 10)
            run(["ip", "netns", "delete", self.namespace])
        succeeds(["ip", "link", "delete", self.link])
        self._address_file.unlink(missing_ok=True)

    def _no_process(self) -> bool:
        pids = run(["ip", "netns", "pids", self.namespace]).split()
        if pids:
            succeeds(["kill", "-KILL", *pids])
        return not pids

    # What runs there

    @property
    def address(self) -> str:
        return self._address_file.read_text()

    @property
    def _inside(self) -> list[str]:
        return ["nsenter", f"--net={NETWORKS / self.namespace}"]

    def inside(self, argv: list[str | Path]) -> list[str]:
        """The command that runs this one on the internet's host."""
        return [*self._inside, *map(str, argv)]

    def listener(self, port: int) -> socket.socket:
        """A socket of this process that listens on the internet's host."""
        opened: list[socket.socket] = []
        failed: list[OSError] = []

        def open_there() -> None:
            # A thread may be in another network than the rest of its process; the socket stays there
            libc = ctypes.CDLL(None, use_errno=True)
            try:
                with (NETWORKS / self.namespace).open() as namespace:
                    if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                opened.append(socket.create_server((self.address, port), backlog=128))
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=open_there)
        thread.start()
        thread.join()
        if failed:
            raise ClusterError(f"no socket on the tests' internet: {failed[0]}") from failed[0]
        return opened[0]

    # What its users see

    @property
    def online(self) -> Path:
        """The command that runs a command for which the internet is there: `online COMMAND...`."""
        return self.folder / "online"

    @property
    def _names(self) -> Path:
        return self.folder / "names"

    @property
    def _variables(self) -> Path:
        return self.folder / "variables"

    @property
    def _address_file(self) -> Path:
        return self.folder / "address"

    def add_name(self, name: str) -> None:
        """From now on `online` commands know a host by this name."""
        line = f"{self.address} {name}\n"
        if line not in self._names.read_text():
            with self._names.open("a") as names:
                names.write(line)

    def set_variables(self, variables: Mapping[str, str]) -> None:
        """Environment variables that `online` commands get from now on."""
        lines = [
            line
            for line in self._variables.read_text().splitlines()
            if line.partition("=")[0] not in variables
        ]
        lines += [f"{name}='{value}'" for name, value in variables.items()]
        self._variables.write_text("".join(line + "\n" for line in lines))

    def program(self, program: Path, **variables: str) -> Path:
        """A program of the same name that runs the given one online, with these variables too."""
        wrapper = self.folder / "bin" / program.name
        wrapper.parent.mkdir(exist_ok=True)
        exports = "".join(f"export {name}='{value}'\n" for name, value in variables.items())
        wrapper.write_text(f'#!/bin/sh\n{exports}exec "{self.online}" "{program}" "$@"\n')
        wrapper.chmod(0o755)
        return wrapper

    # Faults, and what was used

    @contextmanager
    def cut(self) -> Iterator[None]:
        """With it, the link is down: who asks waits, and hears nothing."""
        run(["ip", "-netns", self.namespace, "link", "set", "eth0", "down"])
        try:
            yield
        finally:
            self.restore()

    @contextmanager
    def slow(self, kilobytes_s: int) -> Iterator[None]:
        """With it, everything that the internet sends takes its time."""
        rate = f"{kilobytes_s * 8}kbit"
        tc = ["tc", "-netns", self.namespace, "qdisc"]
        run([*tc, "add", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "32kbit", "latency", "400ms"])
        try:
            yield
        finally:
            self.restore()

    def restore(self) -> None:
        """Ends every fault of the network."""
        run(["ip", "-netns", self.namespace, "link", "set", "eth0", "up"])
        self._know_each_other()
        if " tbf " in run(["tc", "-netns", self.namespace, "qdisc", "show", "dev", "eth0"]):
            run(["tc", "-netns", self.namespace, "qdisc", "delete", "dev", "eth0", "root"])

    def packets(self) -> int:
        """How many packets the machine has sent there, of whatever kind."""
        return int(Path(f"/sys/class/net/{self.link}/statistics/tx_packets").read_text())
