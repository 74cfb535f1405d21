"""The file system that contained code sees, built at a folder and then entered.

Standard library only, as `namespaces`. All functions raise OSError if the kernel refuses.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slurmeval.containment import namespaces as ns

SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
DEVICES = ("null", "zero", "full", "random", "urandom")
_LIBRARIES = "/etc/ld.so.cache"
_ETC = ("alternatives", "group", "hosts", "localtime", "nsswitch.conf", "passwd", "pki", "protocols",
        "resolv.conf", "services", "ssl", "mime.types")  # fmt: skip
"""What programs look up in /etc. The rest of it is the machine's own."""
_TEMPORARY = ("/tmp", "/var/tmp")
_KERNEL_FOLDERS = ("/proc", "/dev/shm", "/dev/pts")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "ptmx": "pts/ptmx",
    "stdin": "fd/0",
    "stdout": "fd/1",
    "stderr": "fd/2",
}


def build(order: dict[str, Any]) -> None:
    """Builds the root of an order (`contained.py`) and enters it.

    The system's programs and libraries and a few devices are there, read-only, with what the order names.
    A command also gets /proc, /dev/shm, a terminal, some of /etc, and /tmp on the disk. A program (`limits`)
    gets a /tmp in memory, as the only place to write.
    """
    root, limits = order["root"], order["limits"]
    _begin(root)
    if limits is None:
        _bind_temporary(root, order["temporary"])
    else:
        _mount_temporary(root, limits["disk_mb"])
    _show_system(root)
    for name in _ETC if limits is None else ():
        if Path("/etc", name).exists():
            _show(root, f"/etc/{name}")
    if Path(_LIBRARIES).exists():
        _show(root, _LIBRARIES)
    # A folder before what is in it, so that each is laid over its parent
    for path in sorted({*order["reads"], *order["writes"]}):
        if path in order["writes"] or not Path(root + path).exists():
            _show(root, path)
    for path, target in order["links"].items():
        if not os.path.lexists(root + path):
            Path(root + path).parent.mkdir(parents=True, exist_ok=True)
            Path(root + path).symlink_to(target)
    if limits is None:
        _mount_kernel_folders(root)
    _make_read_only(root, [*order["writes"], *_TEMPORARY, *_KERNEL_FOLDERS], order["reads"])
    for device in DEVICES:
        _show(root, f"/dev/{device}")
    if limits is None:
        for name, target in _DEVICE_LINKS.items():
            Path(f"{root}/dev/{name}").symlink_to(target)
    else:
        ns.write(f"{root}/etc/passwd", f"nobody:x:{ns.NOBODY}:{ns.NOBODY}:nobody:/tmp:/bin/false\n")
    ns.pivot_root(root)
    ns.mount(None, "/", None, ns.REMOUNT | ns.BIND | ns.RDONLY | ns.NOSUID | ns.NODEV)


def _begin(root: str) -> None:
    """Mounts an empty root in memory. No mount reaches the outside from now on."""
    ns.mount(None, "/", None, ns.REC | ns.PRIVATE)
    ns.mount("tmpfs", root, "tmpfs", ns.NOSUID | ns.NODEV, "size=1m,mode=755")
    Path(f"{root}/etc").mkdir()
    with contextlib.suppress(OSError):
        # Beside the filter of system calls: no user namespaces within this one
        ns.write("/proc/sys/user/max_user_namespaces", "0")


def _bind_temporary(root: str, folder: str) -> None:
    for path in _TEMPORARY:
        own = folder + path
        Path(own).mkdir(parents=True, exist_ok=True)
        Path(root + path).mkdir(parents=True)
        ns.mount(own, root + path, None, ns.BIND)


def _mount_temporary(root: str, size_mb: int) -> None:
    Path(f"{root}/tmp").mkdir()
    options = f"size={size_mb}m,mode=1777,nr_inodes=4096"
    ns.mount("tmpfs", f"{root}/tmp", "tmpfs", ns.NOSUID | ns.NODEV, options)


def _mount_kernel_folders(root: str) -> None:
    for path in _KERNEL_FOLDERS:
        Path(root + path).mkdir(parents=True, exist_ok=True)
    ns.mount("proc", f"{root}/proc", "proc", ns.NOSUID | ns.NODEV | ns.NOEXEC)
    ns.mount("tmpfs", f"{root}/dev/shm", "tmpfs", ns.NOSUID | ns.NODEV, "mode=1777")
    # NeMo Evaluator runs its harnesses at a terminal
    options = "newinstance,ptmxmode=0666,mode=620"
    ns.mount("devpts", f"{root}/dev/pts", "devpts", ns.NOSUID | ns.NOEXEC, options)


def _show_system(root: str) -> None:
    for folder in map(Path, SYSTEM_FOLDERS):
        if folder.is_symlink():
            Path(f"{root}{folder}").symlink_to(folder.readlink())
        elif folder.is_dir():
            _show(root, str(folder))


def _show(root: str, path: str) -> None:
    """Binds a folder or file of the host at the same place inside, with what is mounted below it."""
    inside = Path(root + path)
    if Path(path).is_dir():
        inside.mkdir(parents=True, exist_ok=True)
    else:
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.touch()
    ns.mount(path, str(inside), None, ns.BIND | ns.REC)


def _make_read_only(root: str, writable: Iterable[str], shown: Iterable[str]) -> None:
    """Remounts all below `root` read-only but what is `writable`, or below such a path.

    What is `shown` below a writable path is read-only all the same. What came along with a folder is as that
    folder is. Both are paths inside.
    """
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
        kept = os.statvfs(point).f_flag & (ns.NOSUID | ns.NODEV | ns.NOEXEC)
        ns.mount(None, point, None, ns.REMOUNT | ns.BIND | ns.RDONLY | ns.NOSUID | ns.NODEV | kept)


def _mount_points(root: str) -> set[str]:
    found = set()
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        # Blanks and the like are written as \\040 in there
        point = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), line.split()[4])
        if (path := os.fsdecode(point)).startswith(f"{root}/"):
            found.add(path)
    return found
