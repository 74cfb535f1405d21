"""Contained programs do no harm: each test lets one try."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from slurmeval.containment import contained
from slurmeval.containment import program as containment
from slurmeval.errors import ErrorClass, EvaluationFailed
from tests.lacking import lacking
from tests.public_copy import public_copy

LIMITS = containment.Limits(timeout_s=20, memory_mb=256, disk_mb=8, processes=8, files=32)
SHORT = containment.Limits(timeout_s=1, memory_mb=256, disk_mb=8, processes=8, files=32)


def run(program: str, limits: containment.Limits = LIMITS) -> containment.Outcome:
    return containment.run(program, limits)


@pytest.fixture
def leaves_no_process() -> Callable[[], bool]:
    """Whether no process is left that bears the mark, and none as a zombie under this one."""

    def check() -> bool:
        zombies = [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]
        return not zombies and not [
            p for p in psutil.process_iter(["cmdline"]) if "<contained>" in str(p.info)
        ]

    return check


def test_a_program_that_runs_to_its_end_passes() -> None:
    outcome = run("import math, json, collections\nprint(math.pi)\nassert True")
    assert (outcome.passed, outcome.reason, outcome.output) == (True, "passed", "3.141592653589793\n")
    assert containment.unavailable() is None


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("assert 1 == 2, 'no'", "AssertionError: no"),
        ("def f(:", "SyntaxError:"),
        ("x = '\ud83d'", "UnicodeEncodeError: 'utf-8' codec can't encode"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("import os; os._exit(0)", "did not run to its end: it ended with status 0"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "did not run to its end: killed by signal 9",
        ),
        ("x = bytearray(1 << 30)", "MemoryError"),
        ("x = []\nwhile True: x.append(bytes(1 << 20))", "MemoryError"),
        ("open('/tmp/big', 'wb').write(bytes(9 << 20))", "OSError: [Errno 27] File too large"),
        (
            "for i in range(9): open(f'/tmp/{i}', 'wb').write(bytes(2 << 20))",
            "OSError: [Errno 28] No space left",
        ),
        ("files = [open('/dev/null') for _ in range(99)]", "OSError: [Errno 24] Too many open files"),
        ("open('/usr/x', 'w')", "OSError: [Errno 30] Read-only file system"),
        ("open('/x', 'w')", "OSError: [Errno 30] Read-only file system"),
        ("open('/etc/shadow')", "FileNotFoundError"),
        ("open('/proc/1/environ')", "FileNotFoundError"),
    ],
)
def test_a_program_that_does_not_is_told_why(program: str, reason: str) -> None:
    outcome = run(program)
    assert not outcome.passed
    assert outcome.reason.startswith(reason)


def test_an_endless_program_is_ended_with_all_its_children(leaves_no_process: Callable[[], bool]) -> None:
    program = (
        "import os, sys\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        os.execv(sys.executable, [sys.executable, '-c', 'while True: pass', '<contained>'])\n"
        "while True: pass"
    )
    assert run(program, SHORT).reason == "timed out after 1 s"
    assert leaves_no_process()


def test_children_do_not_outlive_a_program_that_ends(leaves_no_process: Callable[[], bool]) -> None:
    program = (
        "import os, sys\n"
        "if os.fork() == 0:\n"
        "    os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(600)', '<contained>'])"
    )
    assert run(program).passed
    assert leaves_no_process()


def test_a_fork_bomb_ends_at_the_limit(leaves_no_process: Callable[[], bool]) -> None:
    bomb = "import os\nwhile True: os.fork()"
    assert not run(bomb, SHORT).passed
    counted = run(
        "import os, time\n"
        "n = 0\n"
        "try:\n"
        "    while True:\n"
        "        if os.fork() == 0: time.sleep(600)\n"
        "        n += 1\n"
        "except BlockingIOError: print(n)"
    )
    assert 0 < int(counted.output) < LIMITS.processes
    assert leaves_no_process()


def test_home_project_and_secrets_are_not_there(tmp_path: Path) -> None:
    places = [
        tmp_path / "planted",
        Path.home() / f".planted-{secrets.token_hex(4)}",
        Path.cwd() / "planted-here",
    ]
    try:
        for place in places:
            place.write_text("secret")
        program = "".join(
            f"try: print(open({str(place)!r}).read())\nexcept OSError: pass\n" for place in places
        )
        assert run(program).output == ""
    finally:
        for place in places:
            place.unlink(missing_ok=True)


def test_the_environment_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMEVAL_GATEWAY_KEY", "secret")
    assert "secret" not in run("import os; print(dict(os.environ))").output


@pytest.mark.parametrize("umask", [0o077, 0o027])
def test_a_users_umask_hides_no_package_from_a_program(umask: int) -> None:
    before = os.umask(umask)
    try:
        outcome = containment.run("import click")
    finally:
        os.umask(before)
    assert outcome.passed, outcome


def test_what_python_says_when_it_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "x\nPermissionError: /root/python3.11"
    failed = containment.Outcome(False, "did not run to its end: it ended with status 1", said)
    monkeypatch.setattr(containment, "run", lambda _: failed)
    assert str(containment.unavailable()).endswith("ended with status 1, PermissionError: /root/python3.11")


def test_there_is_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        outcome = run(f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)")
    assert outcome.reason.startswith("OSError: [Errno 101] Network is unreachable")


def test_the_parent_cannot_be_killed() -> None:
    outcome = run(
        "import os\n"
        "for pid in (os.getppid(), 1):\n"
        "    for number in (9, 15):\n"
        "        try: os.kill(pid, number)\n"
        "        except PermissionError: pass\n"
        "print('still here')"
    )
    assert (outcome.passed, outcome.output) == (True, "still here\n")


def test_rights_cannot_be_got_back() -> None:
    program = (
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None)\n"
        "mounted = libc.mount(b'tmpfs', b'/tmp', b'tmpfs', 0, None)\n"
        "print(os.getuid(), libc.unshare(0x10000000), mounted, libc.setuid(0))"
    )
    assert run(program).output == "65534 -1 -1 -1\n"


def test_huge_output_is_dropped_not_kept() -> None:
    outcome = run("print('x' * 50_000_000)")
    assert outcome.passed
    assert len(outcome.output) == LIMITS.output_bytes


def test_nothing_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for program in ("open('/tmp/x', 'w').write('y')", "assert False", "import os; os._exit(3)"):
        run(program)
    assert not list(tmp_path.iterdir())
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208


def test_without_namespaces_nothing_is_run() -> None:
    script = (
        "import ctypes, os, pathlib\n"
        "user = os.getuid()\n"
        "assert ctypes.CDLL(None).unshare(0x10000000) == 0\n"
        "pathlib.Path('/proc/self/uid_map').write_text(f'0 {user} 1')\n"
        "pathlib.Path('/proc/sys/user/max_user_namespaces').write_text('0')\n"
        "from slurmeval.errors import EvaluationFailed\n"
        "from slurmeval.containment import program\n"
        "print(program.unavailable())\n"
        "try: program.run('print(1)')\n"
        "except EvaluationFailed as error: print(error.error_class)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    reason, error_class = ran.stdout.splitlines()
    assert reason.startswith(
        "code execution needs user namespaces or Apptainer, and here: containment: [Errno 28]"
    )
    assert error_class == ErrorClass.HARNESS_ERROR


def test_a_python_that_shows_the_home_folder_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    said = {"folders": [str(Path.home().resolve()), str(tmp_path)], "mapped": []}
    python.write_text(f"#!/bin/sh\necho '{json.dumps(said)}'\n")
    python.chmod(0o755)
    with pytest.raises(EvaluationFailed, match="needs a Python in a folder of its own"):
        containment.run("pass", interpreter=python)


def test_another_user_gets_the_same_protection(tmp_path: Path) -> None:
    system = Path("/usr/bin/python3")
    if os.getuid() != 0 or not system.exists():
        lacking("only root can become somebody else, with a Python that every user can run")
    script = public_copy(contained.__file__, tmp_path)
    root = tmp_path / "root"
    root.mkdir()
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    read, write = os.pipe()
    order = {
        "root": str(root),
        "temporary": None,
        "cwd": "/tmp",
        "reads": [],
        "writes": [],
        "links": {},
        "network": False,
        "limits": {"timeout_s": 20, "memory_mb": 256, "disk_mb": 8, "processes": 8, "files": 32},
        "status": write,
    }
    said = "import os; print(os.getuid(), os.listdir('/'))"
    with os.fdopen(read) as status:
        ran = subprocess.run(
            [system, "-I", "-S", script, json.dumps(order), system.resolve(), "-I", "-c", said],
            user=65534,
            group=65534,
            extra_groups=[],
            cwd="/",
            env={},
            pass_fds=(write,),
            capture_output=True,
            text=True,
        )
        os.close(write)
        assert ran.stdout.startswith("65534 ["), ran.stderr
        assert "'root'" not in ran.stdout
        assert status.read() == "S"
