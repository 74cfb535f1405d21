"""The probe: `python -m slurmeval.site_check.probe <order.json>`, in a job of `slurmeval doctor --site`.

It writes `<name>.facts.json` beside its order. A probe in a server's job then listens until one in an
evaluation's job has reached it, or for a while; one in an evaluation's job reaches for all servers' probes.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from slurmeval.config.site import Containers
from slurmeval.containers.apptainer import Apptainer
from slurmeval.containment import command
from slurmeval.disk import existing
from slurmeval.errors import SlurmevalError
from slurmeval.processes import file_system_ahead_s
from slurmeval.progress import size_text
from slurmeval.servers.local_copies import file_system
from slurmeval.servers.ports import NoAddress, bind_address
from slurmeval.site_check.facts import Gpu, Listening, NodeFacts, Place, Reached
from slurmeval.staging.repository import endpoint
from slurmeval.state.records import JsonObject, load, read, write

COMMAND_TIMEOUT_S = 60.0
"""A program's: drivers take their time to wake up."""
CONNECT_TIMEOUT_S = 10.0
LISTEN_S = 120.0
"""How long a server's probe, which holds a GPU, waits to be reached."""
LOOK_S = 0.5
QUERY = ("name", "memory.total", "driver_version", "compute_cap")
_MIG = re.compile(r"\s*(?P<name>MIG \S*?\.(?P<gb>\d+)gb\S*)\s+Device\s+\d+: \(UUID: (?P<uuid>[^)]+)\)")
DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")


@dataclass(frozen=True)
class Order:
    """What a probe is to look at."""

    name: str
    places: dict[str, str]
    token: str
    """Name of the file that the login node has put into each place."""
    containers: JsonObject
    """The section `containers` of the site file."""
    scratch: str | None
    address: str | None = None
    """In a server's job that is to be reached: `servers.address` of the site file."""
    reaches: tuple[str, ...] = ()
    """In an evaluation's job: the names of the probes to reach."""
    wait_s: float = 0.0
    """How long to wait for those."""


def facts_file(folder: Path, name: str) -> Path:
    """Returns where a probe writes what it has found."""
    return folder / f"{name}.facts.json"


def listening_file(folder: Path, name: str) -> Path:
    """Returns where a server's probe writes how it is reached."""
    return folder / f"{name}.listening.json"


def reached_file(folder: Path, name: str) -> Path:
    """Returns where an evaluation's probe writes whether it has reached this server's."""
    return folder / f"{name}.reached.json"


def look(order: Order) -> NodeFacts:
    """Returns what this node offers."""
    began = time.time()
    places = {name: _place(Path(path), order.token) for name, path in order.places.items()}
    scratch, usable = _scratch(order.scratch)
    gpus, unknown = _gpus()
    return NodeFacts(
        node=socket.gethostname(),
        began=began,
        machine=platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
        places=places,
        ahead_s=_ahead_s(Path(order.places["results"])),
        internet=hub_out_of_reach(),
        containers=_containers(Containers.model_validate(order.containers)),
        containment=command.unavailable(),
        scratch=scratch,
        scratch_usable=usable,
        devices=_devices(),
        gpus=gpus,
        gpus_unknown=unknown,
    )


def _place(folder: Path, token: str) -> Place:
    same = (folder / token).exists()
    try:
        with tempfile.TemporaryFile(dir=folder):
            writable = True
    except OSError:
        writable = False
    free = shutil.disk_usage(existing(folder)).free
    return Place(str(folder), same, writable, free)


def _ahead_s(folder: Path) -> float | None:
    try:
        return file_system_ahead_s(folder)
    except OSError:
        return None


def hub_out_of_reach() -> str | None:
    """Returns why the hub does not answer, through the user's proxies if there are any; None: it does."""
    try:
        urllib.request.urlopen(endpoint(), timeout=CONNECT_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return None  # whatever it thinks of the request, it was reached
    except urllib.error.URLError as error:
        return str(error.reason)
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _containers(section: Containers) -> str:
    try:
        return _output(Apptainer.find(section).argv("--version"))
    except SlurmevalError:
        return ""


def _scratch(folder: str | None) -> tuple[str | None, bool]:
    """Returns what a site file's `scratch.folder` is here, and whether weights can be copied there."""
    if folder is None:
        return None, True
    path = Path(os.path.expandvars(folder))
    if "$" in str(path):
        return f"{folder}: the variable is not set in this job", False
    if not path.is_dir() or not os.access(path, os.W_OK):
        return f"{path} is no folder that can be written on this node", False
    kind = file_system(path)
    found = f"{path}, {kind}, {size_text(shutil.disk_usage(path).free)} free"
    return (f"{found}: it is in memory", False) if kind in ("tmpfs", "ramfs") else (found, True)


def _devices() -> list[str]:
    named = next((value for name in DEVICES if (value := os.environ.get(name))), "")
    return [device for device in named.split(",") if device]


def _gpus() -> tuple[list[Gpu], str | None]:
    """Returns the GPUs that nvidia-smi tells of, and why none are known."""
    if shutil.which("nvidia-smi") is None:
        if program := next((name for name in ("rocm-smi", "amd-smi") if shutil.which(name)), None):
            return [], f"there is {program}, so they are AMD's; slurmeval does not read its figures"
        return [], "there is no nvidia-smi on this node"
    table = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    if not (said := _lines(table)):
        # Drivers from before 2021 do not know compute_cap
        said = _lines([table[0], table[1].removesuffix(",compute_cap"), table[2]])
    rows = [[*(cell.strip() for cell in line.split(",")), ""][: len(QUERY)] for line in said]
    found = [
        Gpu(name, _number(memory), driver, capability)
        for name, memory, driver, capability in (row for row in rows if len(row) == len(QUERY))
    ]
    if found and (parts := _parts(_lines([table[0], "--list-gpus"]), _devices())):
        found = [replace(found[0], name=f"{found[0].name}, {name}", memory_mib=size) for name, size in parts]
    return found, None if found else "nvidia-smi is there, and does not answer as expected"


def _parts(listed: Sequence[str], devices: Sequence[str]) -> list[tuple[str, float]]:
    """Returns name and MiB of the parts of GPUs (MIG) that the job has, from `nvidia-smi --list-gpus`.

    A line reads `  MIG 3g.20gb     Device  0: (UUID: MIG-…)`.
    """
    lines = [found for line in listed if (found := _MIG.match(line)) is not None]
    mine = [found for found in lines if found["uuid"] in devices] or lines
    return [(found["name"], float(found["gb"]) * 1024) for found in mine]


def _number(text: str) -> float:
    """Returns 0 for what is no number: a part of a GPU has `[N/A]` for some."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def _output(argv: Sequence[str]) -> str:
    return (_lines(argv) or [""])[-1]


def _lines(argv: Sequence[str]) -> list[str]:
    """Returns what a program prints; nothing where it fails."""
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def listen(folder: Path, order: Order, timeout_s: float = LISTEN_S) -> None:
    """Listens as a server would until it has been reached, or `timeout_s` are over."""
    assert order.address is not None
    file, reached = listening_file(folder, order.name), reached_file(folder, order.name)
    try:
        place = bind_address(order.address)
        family = socket.AF_INET6 if ":" in place.bind else socket.AF_INET
        stream = socket.create_server((place.bind, 0), family=family)
    except (NoAddress, OSError) as error:
        write(file, Listening("", 0, str(error)))
        return
    with stream:
        stream.settimeout(LOOK_S)
        write(file, Listening(place.host, stream.getsockname()[1]))
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and not reached.exists():
            with suppress(TimeoutError):
                connection, _ = stream.accept()
                with connection:
                    connection.sendall(order.token.encode())


def reach(folder: Path, order: Order) -> None:
    """Reaches for each server's probe once it listens."""
    left, deadline = set(order.reaches), time.monotonic() + order.wait_s
    while left and time.monotonic() < deadline:
        list(folder.iterdir())  # has a network file system look again
        for name in sorted(left):
            there = read(listening_file(folder, name), Listening)
            if there is None:
                continue
            left.remove(name)
            if there.fault is None:
                fault = _unreachable(there, order.token.encode())
                write(reached_file(folder, name), Reached(fault, socket.gethostname()))
        time.sleep(LOOK_S)


def _unreachable(there: Listening, token: bytes) -> str | None:
    """Returns why a server's probe cannot be reached from here; None: it can."""
    try:
        with socket.create_connection((there.host, there.port), timeout=CONNECT_TIMEOUT_S) as stream:
            said = stream.makefile("rb").read(len(token))
    except OSError as error:
        return str(error.strerror or error)
    return None if said == token else "something else listens there"


def main() -> None:
    """The command."""
    file = Path(sys.argv[1])
    order, folder = load(file, Order), file.parent
    write(facts_file(folder, order.name), look(order))
    if order.address is not None:
        listen(folder, order)
    reach(folder, order)


if __name__ == "__main__":
    main()
