"""The filter of system calls: what contained code is refused, tried from inside."""

from __future__ import annotations

import errno
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from slurmeval.containment import command as containment
from slurmeval.containment import program, seccomp
from slurmeval.containment.interpreter import inspect
from tests.lacking import lacking

Run = Callable[[str], str]

CALLS = seccomp.CALLS.get(platform.machine(), {})
TRY_ALL = f"""
import ctypes, json
libc, found = ctypes.CDLL(None, use_errno=True), {{}}
for name, number in {CALLS!r}.items():
    ctypes.set_errno(0)
    libc.syscall(number, *[ctypes.c_long(-1)] * 6)
    found[name] = ctypes.get_errno()
print(json.dumps(found))
"""
"""Makes each refused call, with arguments that the kernel itself finds wrong in other ways."""


@pytest.fixture(autouse=True)
def _filtered() -> None:
    if (why := containment.unavailable() or seccomp.unavailable()) is not None:
        lacking(why)


def run_command(script: str) -> str:
    """The output of a Python program that is contained as harnesses are."""
    python = inspect(Path(sys.executable))
    with tempfile.TemporaryDirectory() as folder:
        argv = containment.argv(
            [python.binary, "-I", "-c", script],
            folder=Path(folder),
            cwd=Path("/tmp"),
            reads=[Path(shown) for shown in python.folders],
        )
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


def run_program(script: str) -> str:
    """The output of a program that is contained as a model's are."""
    outcome = program.run(script)
    assert outcome.passed, outcome
    return outcome.output


def run_script(script: str) -> str:
    """The output of a Python program under the filter alone, as in images."""
    argv = [sys.executable, str(seccomp.__file__), sys.executable, "-c", script]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


contained = pytest.mark.parametrize("run", [run_command, run_program, run_script])


@contained
def test_every_listed_call_is_refused(run: Run) -> None:
    found = json.loads(run(TRY_ALL))
    assert set(found) >= {"mount", "ptrace", "bpf", "keyctl", "userfaultfd", "perf_event_open", "init_module"}
    assert set(found) >= {"unshare", "setns", "io_uring_setup", "process_vm_readv", "kexec_load", "fsopen"}
    assert {name: number for name, number in found.items() if number != errno.EPERM} == {}


def test_without_the_filter_the_kernel_answers_otherwise() -> None:
    """So the test above sees the filter, and not rights that are lacking anyway."""
    if os.getuid() != 0:
        lacking("only root is refused nothing else")
    argv = [sys.executable, "-c", TRY_ALL]
    found = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    assert [name for name, number in found.items() if number == errno.EPERM] == []


@contained
def test_no_namespace_is_made_by_clone(run: Run) -> None:
    flags = {"mount": 0x20000, "cgroup": 0x2000000, "user": 0x10000000, "network": 0x40000000}
    script = (
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        f"for name, flag in {flags!r}.items():\n"
        f"    pid = libc.syscall({seccomp.CLONE[platform.machine()]}, ctypes.c_long(flag | 17), 0, 0, 0, 0)\n"
        "    if pid == 0: os._exit(0)\n"
        "    print(name, pid, ctypes.get_errno())\n"
        "libc.syscall(435, 0, 0)\n"  # clone3, which could make them too
        "print(ctypes.get_errno())\n"
    )
    refused = "".join(f"{name} -1 {errno.EPERM}\n" for name in flags)
    assert run(script) == f"{refused}{errno.ENOSYS}\n"


@contained
def test_sockets_lead_to_networks_only(run: Run) -> None:
    """AF_VSOCK leads to a virtual machine's host, past every network namespace."""
    script = (
        "import socket\n"
        "for family in (1, 2, 10, 16, 17, 38, 40):\n"
        "    try: socket.socket(family, 3 if family == 16 else 1).close()\n"
        "    except OSError as error: print(family, error.errno)\n"
    )
    assert run(script) == "".join(f"{family} {errno.EAFNOSUPPORT}\n" for family in (17, 38, 40))


@contained
def test_nothing_is_typed_into_the_terminal(run: Run) -> None:
    script = (
        "import fcntl, os\n"
        "for request in (0x5412, 0x541C, 0x5401):\n"
        "    try: fcntl.ioctl(os.open('/dev/null', os.O_RDONLY), request, bytes(64))\n"
        "    except OSError as error: print(error.errno)\n"
    )
    assert run(script) == f"{errno.EPERM}\n{errno.EPERM}\n{errno.ENOTTY}\n"


@contained
def test_threads_and_processes_run_as_ever(run: Run) -> None:
    script = (
        "import subprocess, threading\n"
        "thread = threading.Thread(target=print, args=('thread',))\n"
        "thread.start(); thread.join()\n"
        "print(subprocess.run(['/bin/echo', 'process'], capture_output=True, text=True).stdout, end='')\n"
    )
    assert run(script) == "thread\nprocess\n"


@contained
def test_the_filter_cannot_be_taken_off(run: Run) -> None:
    """A second one may only refuse more."""
    script = (
        "import ctypes\n"
        "libc = ctypes.CDLL(None)\n"
        "print(libc.prctl(21, 0, 0, 0, 0), libc.prctl(22, 0, 0, 0, 0), libc.prctl(39, 0, 0, 0, 0))\n"
    )
    assert run(script) == "2 -1 1\n"


def test_other_machines_have_no_filter_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "ppc64le")
    assert seccomp.program("ppc64le") is None
    assert seccomp.unavailable() == "there is no list of system calls for ppc64le"
    seccomp.install()


@pytest.mark.parametrize("machine", sorted(seccomp.CALLS))
def test_jumps_stay_within_the_filter(machine: str) -> None:
    steps = seccomp.program(machine) or b""
    assert len(steps) % 8 == 0
    number = len(steps) // 8
    assert 100 < number < 4096  # BPF_MAXINSNS
    for place in range(number):
        code, if_true, if_false = steps[place * 8], steps[place * 8 + 2], steps[place * 8 + 3]
        if code != 6:
            assert place + 1 + max(if_true, if_false) < number
