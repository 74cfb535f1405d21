"""Linux namespaces from Python: the pieces of which a sandbox's and an enclosure's own root is built.

For scripts that become process 1 of a container: it imports nothing but the standard library, and works
without site-packages. All raise OSError where the kernel refuses."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Iterable
from pathlib import Path

FLAGS = {"mount": 0x00020000, "cgroup": 0x02000000, "uts": 0x04000000, "ipc": 0x08000000,
         "user": 0x10000000, "pid": 0x20000000, "net": 0x40000000}  # fmt: skip
"""Of unshare(2)."""
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
"""Of mount(2)."""
SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
DEVICES = ("null", "zero", "full", "random", "urandom")

_DETACH = 2
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(*names: str) -> None:
    """Namespaces of these kinds for this process (`pid`: for its children)."""
    _checked(_libc.unshare(sum(FLAGS[name] for name in names)), "unshare")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind, data)]
    _checked(_libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]), f"mount {target}")


def write(path: str, text: str) -> None:
    Path(path).write_text(text, encoding="utf-8")


def begin_root(root: str) -> None:
    """An empty root in memory at `root`, a folder; no mount reaches the outside from now on."""
    mount(None, "/", None, REC | PRIVATE)
    mount("tmpfs", root, "tmpfs", NOSUID | NODEV, "size=1m,mode=755")
    with contextlib.suppress(OSError):
        # Not vital: no user namespaces within this one, where a program would be root of a sort again
        write("/proc/sys/user/max_user_namespaces", "0")


def show_system(root: str) -> None:
    """The system's programs and libraries."""
    for folder in map(Path, SYSTEM_FOLDERS):
        if folder.is_symlink():
            Path(f"{root}{folder}").symlink_to(folder.readlink())
        elif folder.is_dir():
            show(root, str(folder))


def show(root: str, path: str) -> None:
    """A folder or file of the outside, at the same place inside, with what is mounted below it."""
    inside = Path(root + path)
    if Path(path).is_dir():
        inside.mkdir(parents=True, exist_ok=True)
    else:
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.touch()
    mount(path, str(inside), None, BIND | REC)


def show_devices(root: str) -> None:
    for device in DEVICES:
        show(root, f"/dev/{device}")


def make_read_only(root: str, writable: Iterable[str], shown: Iterable[str] = ()) -> None:
    """Every mount below `root` that is not `writable` or below such a path; what is `shown` below it is
    read-only all the same. Both are paths inside. What came along with a folder is as that folder is."""
    rules = dict.fromkeys((root + path for path in shown), False) | dict.fromkeys(
        map(root.__add__, writable), True
    )
    points = _mount_points(root)
    if f"{root}/usr" not in points:  # what is not found in the table would stay writable
        raise OSError(f"the mounts below {root} are not in /proc/self/mountinfo")
    for point in points:
        fitting = [path for path in rules if point == path or point.startswith(f"{path}/")]
        if fitting and rules[max(fitting, key=len)]:
            continue
        # The flags that a mount has must be given again, or the kernel refuses
        kept = os.statvfs(point).f_flag & (NOSUID | NODEV | NOEXEC)
        mount(None, point, None, REMOUNT | BIND | RDONLY | NOSUID | NODEV | kept)


def _mount_points(root: str) -> set[str]:
    """Those below `root`."""
    found = set()
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        # Blanks and the like are written as \\040 in there
        point = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), line.split()[4])
        if (path := os.fsdecode(point)).startswith(f"{root}/"):
            found.add(path)
    return found


def enter_root(root: str) -> None:
    """From now on there is nothing but `root`, itself read-only."""
    os.chdir(root)
    _checked(_libc.pivot_root(b".", b"."), "pivot_root")
    _checked(_libc.umount2(b".", _DETACH), "umount of the old root")
    mount(None, "/", None, REMOUNT | BIND | RDONLY | NOSUID | NODEV)


def drop_rights() -> None:
    """No rights over the namespaces after the next exec, and none to be had by any program."""
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break
