"""The script that contains a command: enters namespaces, builds a root, and runs the command there.

`python -I -S contained.py ORDER COMMAND…` needs nothing but the standard library. Three processes:

    outside        in the host's process namespace; hands signals on, ends with the command's status
    └── init       process 1 inside; when it ends, the kernel ends all others there
        └── command    without rights, under the filter of system calls

The order is a JSON object:

    root, cwd        the folder to build the root at; the working directory inside
    reads, writes    paths that are shown inside, read-only or writable
    links            further symbolic links: target by path
    network          whether the host's network is there, instead of a loopback of its own
    temporary        the folder on the disk that becomes /tmp; null with limits
    limits           null, or the limits of one program that runs as nobody (`program.Limits`)
    status           null, or a descriptor that gets `SET_UP` once all is built; the command inherits it
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parents[2]))

from slurmeval.containment import namespaces, root, seccomp
from slurmeval.parent_death import signal_at_parent_death

FAILED = 125
"""Exit status if the containment could not be built. Standard error says why."""
TIMED_OUT = 124
"""Exit status of a program that was ended at its time limit."""
SET_UP = b"S"

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_MEGABYTE = 1 << 20


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP))


def _hand_on_signals(pid: int, instead: signal.Signals | None = None) -> None:
    for number in _STOP_SIGNALS:
        signal.signal(number, lambda number, _: os.kill(pid, instead or number))


def _set_limits(limits: dict[str, Any]) -> None:
    values = {
        resource.RLIMIT_CPU: int(limits["timeout_s"]) + 1,
        resource.RLIMIT_AS: limits["memory_mb"] * _MEGABYTE,
        resource.RLIMIT_FSIZE: limits["disk_mb"] * _MEGABYTE,
        resource.RLIMIT_NOFILE: limits["files"],
        resource.RLIMIT_NPROC: limits["processes"],
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in values.items():
        resource.setrlimit(kind, (value, value))


def _become(command: list[str], order: dict[str, Any]) -> NoReturn:
    """Gives up all rights and becomes the command."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    if order["limits"] is not None:
        os.setsid()
        _set_limits(order["limits"])
    namespaces.drop_rights()
    if order["limits"] is not None:
        namespaces.become_nobody()
    if order["status"] is not None:
        os.set_inheritable(order["status"], True)
    seccomp.install()
    os.execvpe(command[0], command, os.environ)


def _init(order: dict[str, Any], command: list[str]) -> int:
    """Builds the root, starts the command, reaps, and returns the command's exit status."""
    signal_at_parent_death()
    root.build(order)
    if order["limits"] is None and not order["network"]:
        _raise_loopback()
    os.chdir(order["cwd"])
    if order["status"] is not None:
        os.write(order["status"], SET_UP)
    pid = os.fork()
    if pid == 0:
        _become(command, order)
    if order["status"] is not None:
        os.close(order["status"])
    if order["limits"] is None:
        _hand_on_signals(pid)
    else:  # a program may send them: to an ordinary user's processes, which are all of one user
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)  # which process 1 does not heed
    while True:
        ended, status = os.wait()
        if ended == pid:
            return _exit_status(status)


def _exit_status(status: int) -> int:
    """Returns the status as a shell reports it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _wait(init: int, limits: dict[str, Any] | None) -> int:
    """Waits for the end of `init`, and kills it at the time limit."""
    _hand_on_signals(init, None if limits is None else signal.SIGKILL)
    timed_out = False

    def end(*_: object) -> None:
        nonlocal timed_out
        timed_out = True
        os.kill(init, signal.SIGKILL)

    if limits is not None:
        signal.signal(signal.SIGALRM, end)
        signal.setitimer(signal.ITIMER_REAL, limits["timeout_s"])
    status = os.waitpid(init, 0)[1]
    return TIMED_OUT if timed_out else _exit_status(status)


def main() -> int:
    """Returns the command's exit status, `TIMED_OUT` or `FAILED`."""
    order, command = json.loads(sys.argv[1]), sys.argv[2:]
    limits = order["limits"]
    try:
        if limits is not None:
            os.setsid()
            os.umask(0o022)  # root builds what nobody is to read
            namespaces.write("/proc/self/oom_score_adj", "1000")
        namespaces.unshare(order["network"], nobody=limits is not None)
    except OSError as error:
        print(f"containment: {error}", file=sys.stderr, flush=True)
        return FAILED
    # A signal that comes before the command runs ends all
    init = os.fork()
    if init == 0:
        code = FAILED
        try:
            code = _init(order, command)
        except BaseException as error:  # noqa: BLE001
            print(f"containment: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    if order["status"] is not None:
        os.close(order["status"])
    return _wait(init, limits)


if __name__ == "__main__":
    sys.exit(main())
