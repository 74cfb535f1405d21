"""The inside of the sandbox: makes namespaces, builds a root of its own, runs one program there.

Started by `sandbox.run` as a script of its own, which needs nothing but the standard library:
`python -I -S sandbox_child.py <verdict descriptor>`, the order (JSON) on standard input. Three processes:

outside   in the host's process namespace; kills the sandbox when its time is up
└── init    process 1 of the sandbox; when it ends, the kernel ends all others there
    └── program    without rights, under limits

On the verdict descriptor: "S" once the sandbox stands, then what `_WRAPPER` says of the program."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parents[2]))

from slurmeval.containment import namespaces as ns
from slurmeval.parent_death import signal_at_parent_death

NOBODY = 65534
TIMED_OUT = 124
SET_UP = b"S"

# Reads a token and the program, runs it, and says so with the token, which the program cannot say by chance.
_WRAPPER = """
import json, os, sys
def run():
    sys.path.append(%r)
    token = sys.stdin.readline().strip()
    source = sys.stdin.read()
    error = None
    try:
        exec(compile(source, "<program>", "exec"), {"__name__": "__main__"})
    except BaseException as caught:
        error = f"{type(caught).__name__}: {caught}"[:500]
    os.write(%d, json.dumps({"token": token, "error": error}).encode())
run()
sys.stdout.flush()
os._exit(0)
"""


def _unshare() -> None:
    """New namespaces of every kind. Outside root, this process's user is the only one in there, as nobody;
    as root, root builds and another user, nobody, runs the program (limits do not hold for root)."""
    uid, gid = os.getuid(), os.getgid()
    if uid != 0:
        ns.unshare(*ns.FLAGS)
        ns.write("/proc/self/setgroups", "deny")
        ns.write("/proc/self/uid_map", f"{NOBODY} {uid} 1")
        ns.write("/proc/self/gid_map", f"{NOBODY} {gid} 1")
        return
    ready_read, ready_write = os.pipe()
    parent = os.getpid()
    mapper = os.fork()
    if mapper == 0:
        status = 1
        try:
            os.close(ready_write)
            os.read(ready_read, 1)
            for name in ("uid_map", "gid_map"):
                ns.write(f"/proc/{parent}/{name}", f"0 0 1\n{NOBODY} {NOBODY} 1\n")
            status = 0
        finally:
            os._exit(status)
    ns.unshare(*ns.FLAGS)
    os.close(ready_read)
    os.close(ready_write)
    if os.waitpid(mapper, 0)[1] != 0:
        raise PermissionError(f"root may not map user {NOBODY} into a user namespace")


def _build_root(order: dict[str, Any]) -> None:
    """A root of its own in memory: the system's programs and libraries and the interpreter, all read-only, a
    few devices, and /tmp, the only place to write. No home, no project, no /proc, no /sys, no /run."""
    root = order["root"]
    os.umask(0o022)  # another user than the one that makes these folders runs the program
    ns.begin_root(root)
    for name in ("/tmp", "/dev", "/etc"):
        Path(root + name).mkdir()
    options = f"size={order['disk_mb']}m,mode=1777,nr_inodes=4096"
    ns.mount("tmpfs", f"{root}/tmp", "tmpfs", ns.NOSUID | ns.NODEV, options)
    ns.show_system(root)
    for folder in order["visible"]:
        # Already there where it lies in a folder before it, such as /usr.
        if not Path(root + folder).is_dir():
            ns.show(root, folder)
    ns.make_read_only(root, ["/tmp"], order["visible"])
    ns.show_devices(root)
    ns.write(f"{root}/etc/passwd", f"nobody:x:{NOBODY}:{NOBODY}:nobody:/tmp:/bin/false\n")
    libraries = Path("/etc/ld.so.cache")
    if libraries.exists():
        Path(f"{root}{libraries}").write_bytes(libraries.read_bytes())
    ns.enter_root(root)
    os.chdir("/tmp")


def _run_program(order: dict[str, Any], source: int, verdict: int) -> NoReturn:
    """Gives up all rights and becomes the program."""
    os.setsid()
    os.dup2(source, 0)
    megabyte = 1 << 20
    limits = {
        resource.RLIMIT_CPU: int(order["timeout_s"]) + 1,
        resource.RLIMIT_AS: order["memory_mb"] * megabyte,
        resource.RLIMIT_FSIZE: order["disk_mb"] * megabyte,
        resource.RLIMIT_NOFILE: order["files"],
        resource.RLIMIT_NPROC: order["processes"],
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value))
    ns.drop_rights()
    if os.getuid() != NOBODY:
        os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.set_inheritable(verdict, True)
    env = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
    python = order["interpreter"]
    os.execve(python, [python, "-I", "-B", "-X", "utf8", "-c", _WRAPPER % (order["packages"], verdict)], env)


def _init(order: dict[str, Any], verdict: int) -> int:
    """Process 1: builds, starts the program, reaps, and gives back how the program ended."""
    signal_at_parent_death()
    _build_root(order)
    source_read, source_write = os.pipe()
    os.write(verdict, SET_UP)
    program = os.fork()
    if program == 0:
        os.close(source_write)
        _run_program(order, source_read, verdict)
    os.close(source_read)
    os.close(verdict)
    try:
        with os.fdopen(source_write, "wb") as stream:
            stream.write(f"{order['token']}\n{order['program']}".encode())
    except BrokenPipeError:
        pass  # It ended without reading; how, is seen below.
    while True:
        ended, status = os.wait()
        if ended == program:
            return status


def main() -> int:
    verdict = int(sys.argv[1])
    order = json.load(sys.stdin)
    os.setsid()
    ns.write("/proc/self/oom_score_adj", "1000")
    _unshare()
    init = os.fork()
    if init == 0:
        status = 1
        try:
            code = os.waitstatus_to_exitcode(_init(order, verdict))
            status = code if code >= 0 else 128 - code
        except BaseException as error:  # noqa: BLE001
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    os.close(verdict)
    timed_out = False

    def stop(*_: object) -> None:
        nonlocal timed_out
        timed_out = True
        os.kill(init, signal.SIGKILL)

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, order["timeout_s"])
    _, status = os.waitpid(init, 0)
    return TIMED_OUT if timed_out else os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
