"""The inside of an enclosure: builds a root of its own, and runs one command in it.

Started by `enclosure.argv` as a script of its own, which needs nothing but the standard library:
`python -I -S enclosed.py ORDER COMMAND…`, the order as JSON. Three processes:

outside   in the host's process namespace; hands signals on, ends with the command's status
└── init    process 1 of the enclosure; when it ends, the kernel ends all others there
    └── command   without rights over the enclosure
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from slurmeval.containment import namespaces as ns
from slurmeval.parent_death import signal_at_parent_death

NOT_SET_UP = 125
"""Exit status where the enclosure could not be made; standard error says why."""
_ETC = ("alternatives", "group", "hosts", "ld.so.cache", "localtime", "nsswitch.conf", "passwd", "pki",
        "protocols", "resolv.conf", "services", "ssl", "mime.types")  # fmt: skip
"""What programs look up in /etc; the rest of it is the machine's own."""
_TEMPORARY = ("/tmp", "/var/tmp")
_OF_THE_KERNEL = ("/proc", "/dev/shm", "/dev/pts")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "ptmx": "pts/ptmx",
    "stdin": "fd/0",
    "stdout": "fd/1",
    "stderr": "fd/2",
}
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


def _unshare(network: bool) -> None:
    """Namespaces of every kind, but for the network where that is wanted. The user stays who they are, and
    nobody else is there."""
    uid, gid = os.getuid(), os.getgid()
    ns.unshare(*(name for name in ns.FLAGS if name != "net" or not network))
    ns.write("/proc/self/setgroups", "deny")
    ns.write("/proc/self/uid_map", f"{uid} {uid} 1")
    ns.write("/proc/self/gid_map", f"{gid} {gid} 1")


def _build_root(order: dict[str, Any]) -> None:
    root = order["root"]
    ns.begin_root(root)
    for path in _TEMPORARY:
        own = order["temporary"] + path
        Path(own).mkdir(parents=True, exist_ok=True)
        Path(root + path).mkdir(parents=True)
        ns.mount(own, root + path, None, ns.BIND)
    ns.show_system(root)
    for name in _ETC:
        if Path("/etc", name).exists():
            ns.show(root, f"/etc/{name}")
    # A folder before what is in it, so that each is laid over its parent
    for path in sorted({*order["reads"], *order["writes"]}):
        if path in order["writes"] or not Path(root + path).exists():
            ns.show(root, path)
    for path, target in order["links"].items():
        if not os.path.lexists(root + path):
            Path(root + path).parent.mkdir(parents=True, exist_ok=True)
            Path(root + path).symlink_to(target)
    for path in _OF_THE_KERNEL:
        Path(root + path).mkdir(parents=True, exist_ok=True)
    ns.mount("proc", f"{root}/proc", "proc", ns.NOSUID | ns.NODEV | ns.NOEXEC)
    ns.mount("tmpfs", f"{root}/dev/shm", "tmpfs", ns.NOSUID | ns.NODEV, "mode=1777")
    # NeMo Evaluator runs its harnesses at a terminal
    ns.mount(
        "devpts", f"{root}/dev/pts", "devpts", ns.NOSUID | ns.NOEXEC, "newinstance,ptmxmode=0666,mode=620"
    )
    ns.make_read_only(root, [*order["writes"], *_TEMPORARY, *_OF_THE_KERNEL], order["reads"])
    ns.show_devices(root)
    for name, target in _DEVICE_LINKS.items():
        Path(f"{root}/dev/{name}").symlink_to(target)
    ns.enter_root(root)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP))


def _hand_on(pid: int) -> None:
    """The signals by which a harness is told to stop go to this child."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(pid, number))


def _init(order: dict[str, Any], command: list[str]) -> int:
    """Process 1: builds, starts the command, reaps, and gives back how the command ended."""
    signal_at_parent_death()
    _build_root(order)
    if not order["network"]:
        _raise_loopback()
    os.chdir(order["cwd"])
    pid = os.fork()
    if pid == 0:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        ns.drop_rights()
        os.execvpe(command[0], command, os.environ)
    _hand_on(pid)
    while True:
        ended, status = os.wait()
        if ended == pid:
            return _code(status)


def _code(status: int) -> int:
    """As a shell says it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def main() -> int:
    order, command = json.loads(sys.argv[1]), sys.argv[2:]
    try:
        _unshare(order["network"])
    except OSError as error:
        print(f"enclosure: {error}", file=sys.stderr, flush=True)
        return NOT_SET_UP
    # A signal that comes before the command runs ends all
    init = os.fork()
    if init == 0:
        code = NOT_SET_UP
        try:
            code = _init(order, command)
        except BaseException as error:  # noqa: BLE001
            print(f"enclosure: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    _hand_on(init)
    return _code(os.waitpid(init, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
