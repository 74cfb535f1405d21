"""A filter of system calls (seccomp) for code that nobody has looked at.

It refuses what neither a harness nor a model's program has business with, and what has let programs out of
containers: mounts, namespaces, other processes' memory, kernel modules, eBPF, io_uring, keys. All else is
left to the other parts of the containment. A filter holds for all descendants and cannot be removed.

It is classic BPF, written by hand: libseccomp is not on every node, and this runs without site-packages,
inside images too (Python 3.8 or later). The formats are those of `struct sock_filter` and `struct
sock_fprog` in linux/filter.h, `struct seccomp_data` and the return values in linux/seccomp.h, and
AUDIT_ARCH_* in linux/audit.h; see seccomp(2). The numbers of the calls are those of
arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.

`python seccomp.py COMMAND…` becomes the command, under the filter if the kernel has it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

CALLS: dict[str, dict[str, int]] = {
    "x86_64": {
        "ptrace": 101, "syslog": 103, "modify_ldt": 154, "pivot_root": 155, "chroot": 161, "acct": 163,
        "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169,
        "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "init_module": 175,
        "delete_module": 176, "quotactl": 179, "clock_settime": 227, "kexec_load": 246, "add_key": 248,
        "request_key": 249, "keyctl": 250, "unshare": 272, "perf_event_open": 298, "fanotify_init": 300,
        "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311,
        "kcmp": 312, "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
    },
    "aarch64": {
        "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "quotactl": 60, "acct": 89,
        "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106, "clock_settime": 112,
        "syslog": 116, "ptrace": 117, "reboot": 142, "sethostname": 161, "setdomainname": 162,
        "settimeofday": 170, "add_key": 217, "request_key": 218, "keyctl": 219, "swapon": 224,
        "swapoff": 225, "perf_event_open": 241, "fanotify_init": 262, "open_by_handle_at": 265,
        "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272,
        "finit_module": 273, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
    },
}  # fmt: skip
"""Refused calls, by architecture. Those since Linux 5.0 have the same number everywhere."""
_NEW_CALLS = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438,
    "mount_setattr": 442, "quotactl_fd": 443,
}  # fmt: skip
CLONE3 = 435
CLONE = {"x86_64": 56, "aarch64": 220}
_SOCKET = {"x86_64": 41, "aarch64": 198}
_IOCTL = {"x86_64": 16, "aarch64": 29}
for _calls in CALLS.values():
    _calls.update(_NEW_CALLS)

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000
"""Marks calls of the x32 interface, which have numbers of their own."""
_NAMESPACE_FLAGS = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
SOCKET_FAMILIES = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK (names of interfaces). AF_VSOCK, say, would lead past the network
namespace, to the machine's host."""
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
"""Would type into the terminal of whoever started the run."""

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENT_AT = 0, 4, 16
"""Offsets in `struct seccomp_data`. Both architectures store the low half of an argument first."""
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PR_SET_SECCOMP, _MODE_FILTER, _PR_SET_NO_NEW_PRIVS = 22, 2, 38
_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _refuse(number: int) -> bytes:
    return _step(_RETURN, _ERRNO | number)


def _when_argument(call: int, argument: int, tests: list[bytes]) -> list[bytes]:
    """Returns steps for one call; its `tests` see the low half of an argument."""
    body = [_step(_LOAD, _ARGUMENT_AT + 8 * argument), *tests, _step(_LOAD, _NUMBER_AT)]
    return [_step(_JUMP_EQUAL, call, 0, len(body)), *body]


def program(machine: str) -> bytes | None:
    """Returns the filter for an architecture, or None if there is none."""
    if machine not in CALLS:
        return None
    eperm = _refuse(errno.EPERM)
    families = [
        _step(_JUMP_EQUAL, family, len(SOCKET_FAMILIES) - place)
        for place, family in enumerate(SOCKET_FAMILIES)
    ]
    steps = [
        _step(_LOAD, _ARCH_AT),
        *[_step(_JUMP_EQUAL, _AUDIT_ARCH[machine], 1, 0), eperm],
        _step(_LOAD, _NUMBER_AT),
        *[_step(_JUMP_AT_LEAST, _X32_BIT, 0, 1), eperm],
        # Its flags are in memory, which a filter cannot read: told that it is missing, programs use clone
        *[_step(_JUMP_EQUAL, CLONE3, 0, 1), _refuse(errno.ENOSYS)],
        *_when_argument(CLONE[machine], 0, [_step(_JUMP_ANY_BIT, _NAMESPACE_FLAGS, 0, 1), eperm]),
        *_when_argument(_SOCKET[machine], 0, [*families, _refuse(errno.EAFNOSUPPORT)]),
        *_when_argument(
            _IOCTL[machine],
            1,
            [_step(_JUMP_EQUAL, _TIOCSTI, 1, 0), _step(_JUMP_EQUAL, _TIOCLINUX, 0, 1), eperm],
        ),
    ]
    for number in sorted(CALLS[machine].values()):
        steps += [_step(_JUMP_EQUAL, number, 0, 1), eperm]
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def unavailable() -> str | None:
    """Returns why no filter can be installed here, or None if it can."""
    if platform.machine() not in CALLS:
        return f"there is no list of system calls for {platform.machine()}"
    # With no program the kernel answers EFAULT, or EINVAL if it has no filters
    if _libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, None, 0, 0) != 0 and ctypes.get_errno() == errno.EFAULT:
        return None
    return "the kernel has no seccomp filters"


def install() -> None:
    """Puts this process and all that it starts under the filter, unless `unavailable`.

    Raises:
        OSError: The kernel refuses.
    """
    if unavailable() is not None:
        return
    steps = program(platform.machine()) or b""
    loaded = _Program(len(steps) // 8, steps)
    for option, first, second in (
        (_PR_SET_NO_NEW_PRIVS, 1, None),
        (_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(loaded)),
    ):
        if _libc.prctl(option, first, second, 0, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"seccomp filter: {os.strerror(number)}")


if __name__ == "__main__":
    install()
    os.execvp(sys.argv[1], sys.argv[1:])
