"""Starting and crashing the cluster's hosts: sets of namespaces with a first process each."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

from tests.slurm.cluster import processes
from tests.slurm.cluster.commands import start_daemon, wait_until
from tests.slurm.cluster.layout import CONTROLLERS, NODES, Layout

HERE = Path(__file__).parent


def write_commands(layout: Layout) -> None:
    """`on HOST COMMAND...` and `login COMMAND...`; and what starts a host, which has to stay as it is as long
    as one runs."""
    shutil.copy(HERE / "on.sh", layout.on)
    shutil.copy(HERE / "host.sh", layout.host_script)
    layout.login.write_text(f'#!/bin/sh\nexec "{layout.on}" login "$@"\n')
    for command in (layout.on, layout.login):
        command.chmod(0o755)


def start(layout: Layout, host: str) -> None:
    """Starts head or login."""
    file = layout.first_process(host)
    _start(layout, host)
    wait_until(lambda: file.exists() and file.read_text().endswith("\n"), f"{host} to start", 10)


def _start(layout: Layout, host: str, *controllers: str) -> None:
    script: list[str | Path] = [layout.host_script, layout.base, layout.prefix, host, *controllers]
    start_daemon(["bash", *script], layout.logs / f"{host}.out")


def boot(layout: Layout, node: str) -> None:
    """Starts a node that is not up, and its slurmd."""
    # What a crash left of its control groups would hold back the jobs after it
    remove_control_groups(layout, node)
    limited = (layout.etc / "cgroup.conf").exists()
    (layout.spool / node).mkdir(exist_ok=True)
    _start(layout, node, *(CONTROLLERS if limited else ()))
    first = wait_until(lambda: processes.first_of_node(layout, node), f"{node} to start", 10)
    aside = layout.first_process(f"{node}.new")
    aside.write_text(f"{first.pid}\n")
    aside.rename(layout.first_process(node))


def crash(layout: Layout, node: str) -> None:
    """Kills the node's first process, and all others with it."""
    layout.first_process(node).unlink(missing_ok=True)

    def gone() -> bool:
        left = processes.of_host(layout, node)
        # Not all of them: what the first one leaves to the kernel is the crash
        processes.kill([process for process in left if process.pid_on_host == 1])
        return not left

    wait_until(gone, f"{node} to die", 10)


def remove_control_groups(layout: Layout, *nodes: str) -> None:
    """Removes the nodes' control groups; no process may be in them."""
    for node in nodes or NODES:
        for controller in CONTROLLERS:
            top = layout.cgroup(controller, node)
            for folder, _, _ in os.walk(top, topdown=False):
                wait_until(partial(_removed, Path(folder)), f"{folder} to be empty", 5)


def _removed(group: Path) -> bool:
    """Tries to remove it: the kernel frees a control group a moment after its last process."""
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
