"""Linux namespaces, mounts and rights from Python.

For scripts that become process 1 of a container: nothing but the standard library is imported, and
site-packages are not needed. All functions raise OSError if the kernel refuses.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

FLAGS = {"mount": 0x00020000, "cgroup": 0x02000000, "uts": 0x04000000, "ipc": 0x08000000,
         "user": 0x10000000, "pid": 0x20000000, "net": 0x40000000}  # fmt: skip
"""Flags of unshare(2)."""
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
"""Flags of mount(2)."""
NOBODY = 65534
"""User and group that have no rights anywhere."""

_DETACH = 2
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def write(path: str, text: str) -> None:
    """Writes a file of the kernel's."""
    Path(path).write_text(text, encoding="utf-8")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Mounts by the system call of that name."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind, data)]
    _checked(_libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]), f"mount {target}")


def pivot_root(root: str) -> None:
    """Makes `root` the only file system there is."""
    os.chdir(root)
    _checked(_libc.pivot_root(b".", b"."), "pivot_root")
    _checked(_libc.umount2(b".", _DETACH), "umount of the old root")


def unshare(network: bool, nobody: bool) -> None:
    """Enters new namespaces of every kind. The process namespace is for children.

    Args:
        network: Stays in the host's network.
        nobody: Maps this process's user to `NOBODY`. For root, `NOBODY` is mapped beside it and taken later
            (`become_nobody`), because limits do not hold for root.
    """
    flags = sum(flag for name, flag in FLAGS.items() if name != "net" or not network)
    uid, gid = os.getuid(), os.getgid()
    if nobody and uid == 0:
        _unshare_as_root(flags)
        return
    _checked(_libc.unshare(flags), "unshare")
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"{NOBODY if nobody else uid} {uid} 1")
    write("/proc/self/gid_map", f"{NOBODY if nobody else gid} {gid} 1")


def _unshare_as_root(flags: int) -> None:
    """Two users can only be mapped from outside the new namespace: by a child that stays there."""
    ready_read, ready_write = os.pipe()
    parent = os.getpid()
    mapper = os.fork()
    if mapper == 0:
        status = 1
        try:
            os.close(ready_write)
            os.read(ready_read, 1)
            for name in ("uid_map", "gid_map"):
                write(f"/proc/{parent}/{name}", f"0 0 1\n{NOBODY} {NOBODY} 1\n")
            status = 0
        finally:
            os._exit(status)
    _checked(_libc.unshare(flags), "unshare")
    os.close(ready_read)
    os.close(ready_write)
    if os.waitpid(mapper, 0)[1] != 0:
        raise PermissionError(f"root may not map user {NOBODY} into a user namespace")


def become_nobody() -> None:
    """Takes the user `NOBODY`."""
    if os.getuid() != NOBODY:
        os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def drop_rights() -> None:
    """Gives up all rights over the namespaces from the next exec on, for good."""
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break
