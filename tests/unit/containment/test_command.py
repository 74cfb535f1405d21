"""A contained command: what it sees, reaches and may do, and how it ends."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurmeval.containment import command as containment
from slurmeval.containment import contained as script
from slurmeval.containment.interpreter import inspect
from tests.lacking import lacking
from tests.public_copy import public_copy
from tests.waiting import wait_for

Contain = Callable[..., list[str]]
NOBODY = 65534
DENIED = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'


@pytest.fixture(autouse=True)
def _granted() -> None:
    if (why := containment.unavailable()) is not None:
        lacking(f"no user namespaces: {why}")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="slurmeval-containment-ü -"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def work(place: Path) -> Path:
    folder = place / "work of 'mine'"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.fixture
def contain(place: Path, work: Path) -> Contain:
    """The command line of a contained command, which writes to `work` only."""

    def make(*command: str, **options: object) -> list[str]:
        writes = [work, *options.pop("writes", [])]  # type: ignore[misc]
        return containment.argv(command, folder=place, cwd=work, writes=writes, **options)  # type: ignore[arg-type]

    return make


def run(argv: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload,no-any-return]


def python_of(script: str) -> tuple[list[str], list[Path]]:
    """The command line of a Python program, and what must be shown to it."""
    python = inspect(Path(sys.executable))
    return [python.binary, "-I", "-c", script], [Path(folder) for folder in python.folders]


def test_it_sees_the_system_and_what_it_is_shown(place: Path, work: Path, contain: Contain) -> None:
    shown, hidden = place / "shown", place / "hidden"
    for folder in (shown, hidden):
        folder.mkdir()
        (folder / "file").write_text("content")
    (work / "link").symlink_to(shown / "file")
    script = f"cat link '{shown}/file'; ls '{hidden}' '{Path.home()}'"
    ended = run(contain("/bin/sh", "-c", script, reads=[shown]))
    assert ended.stdout == "contentcontent"
    assert ended.stderr.count("No such file or directory") == 2


def test_a_folder_is_there_under_both_of_its_names(place: Path, contain: Contain) -> None:
    (place / "real").mkdir()
    (place / "real" / "file").write_text("content")
    (place / "name").symlink_to(place / "real")
    ended = run(contain("/bin/cat", f"{place}/name/file", f"{place}/real/file", reads=[place / "name"]))
    assert (ended.returncode, ended.stdout) == (0, "contentcontent")


def test_it_writes_to_its_folders_and_to_a_tmp_of_its_own(place: Path, work: Path, contain: Contain) -> None:
    shown = place / "shown"
    (shown / "part").mkdir(parents=True)
    script = (
        'for folder in / /usr "$1" "$1/part" . /tmp /var/tmp; do touch "$folder/new" && echo "$folder"; done'
    )
    ended = run(contain("/bin/sh", "-c", script, "sh", str(shown), reads=[shown], writes=[shown / "part"]))
    assert ended.stdout.split("\n")[:-1] == [f"{shown}/part", ".", "/tmp", "/var/tmp"]
    assert (work / "new").exists() and (shown / "part" / "new").exists()
    assert not Path("/tmp/new").exists()


def test_it_has_a_loopback_of_its_own_and_no_other_network(contain: Contain) -> None:
    program, reads = python_of(
        "import socket, sys\n"
        "own = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(own.getsockname())\n"
        "for host, port in zip(sys.argv[1::2], sys.argv[2::2]):\n"
        "    try: socket.create_connection((host, int(port)), 5)\n"
        "    except OSError as error: print(type(error).__name__, error.errno)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as outside:
        argv = [*program, "127.0.0.1", str(outside.getsockname()[1])]
        alone = run(contain(*argv, "192.0.2.1", "80", reads=reads))
        assert alone.stdout == "ConnectionRefusedError 111\nOSError 101\n", alone.stderr
        assert run(contain(*argv, reads=reads, network=True)).stdout == ""


def test_it_sees_no_other_process_and_has_no_rights(contain: Contain) -> None:
    ended = run(
        contain("/bin/sh", "-c", "echo /proc/[0-9]*; grep -E 'Cap(Eff|Prm|Bnd)|NoNewPrivs' /proc/self/status")
    )
    processes, *rights = ended.stdout.splitlines()
    assert set(processes.split()) <= {"/proc/1", "/proc/2", "/proc/3"}
    assert {line.split()[1] for line in rights} == {"0" * 16, "1"}
    tries = "mount -o remount,rw /usr || umount /usr || unshare --user true"
    assert run(contain("/bin/sh", "-c", tries)).returncode != 0


def test_it_has_what_programs_expect_of_a_system(contain: Contain) -> None:
    program, reads = python_of(
        "import multiprocessing, os, pty, pwd, sys, tempfile\n"
        "pty.spawn(['/bin/echo', 'at a terminal'])\n"
        "multiprocessing.get_context('spawn').Lock()\n"
        "tempfile.TemporaryFile().write(b'x')\n"
        "open('/dev/stdout', 'w').write(pwd.getpwuid(0).pw_name)\n"
    )
    ended = run(contain(*program, reads=reads))
    assert (ended.returncode, ended.stdout) == (0, "at a terminal\nroot"), ended.stderr


def test_the_next_command_in_a_place_sees_as_much_as_the_first(place: Path, contain: Contain) -> None:
    shown = place / "shown"
    shown.mkdir()
    (shown / "file").write_text("content")
    for _ in range(2):
        ended = run(contain("/bin/cat", str(shown / "file"), reads=[shown]))
        assert ended.stdout == "content", ended.stderr


def test_another_user_may_too(place: Path, work: Path, contain: Contain) -> None:
    if os.getuid() != 0:
        lacking("only root can be another user")
    argv = contain("/bin/sh", "-c", "id -u; touch mine; ls /")
    file = script.__file__
    argv[: argv.index(file) + 1] = ["/usr/bin/python3", "-I", "-S", str(public_copy(file, place))]
    for folder in (*place.glob("containment-*"), *place.glob("containment-*/*")):
        folder.chmod(0o777)
    ended = run(argv, user=NOBODY, group=NOBODY, extra_groups=[])
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split()[0] == str(NOBODY)
    assert (work / "mine").stat().st_uid == NOBODY


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)])
def test_its_status_is_the_commands(contain: Contain, script: str, status: int) -> None:
    assert run(contain("/bin/sh", "-c", script)).returncode == status


def test_a_command_that_is_not_there_is_named(contain: Contain) -> None:
    ended = run(contain("/no/such/program"))
    assert ended.returncode == 125
    assert ended.stderr == "containment: [Errno 2] No such file or directory: '/no/such/program'\n"


def test_it_is_told_to_stop(work: Path, contain: Contain) -> None:
    script = "trap 'echo told; exit 3' TERM; touch ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(contain("/bin/sh", "-c", script), stdout=subprocess.PIPE, text=True)
    wait_for((work / "ready").exists, "the command to run")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30) == ("told\n", None)
    assert process.returncode == 3


@pytest.mark.parametrize("ending", ["killed", "over"])
def test_nothing_outlives_it(work: Path, contain: Contain, ending: str) -> None:
    """Not even what has left its session."""
    script = "setsid sleep 4321.5 & touch ready; " + ("sleep 4321.5" if ending == "killed" else ":")
    process = subprocess.Popen(contain("/bin/sh", "-c", script), stdout=subprocess.DEVNULL)
    wait_for((work / "ready").exists, "the command to run")
    if ending == "killed":
        process.kill()
    process.wait(30)
    wait_for(lambda: not _sleepers(), "the contained processes to end")


def _sleepers() -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if b"4321.5" in (entry / "cmdline").read_bytes():
                found.append(entry.name)
        except OSError:
            continue
    return found


def test_where_the_kernel_grants_none_it_says_so() -> None:
    code = "from slurmeval.containment import command; print(command.unavailable())"
    asked = run(
        ["unshare", "--user", "--map-root-user", "/bin/sh", "-c", DENIED, "sh", sys.executable, "-c", code]
    )
    assert asked.stdout.startswith("containment: [Errno 28] unshare: No space left on device"), asked.stderr
