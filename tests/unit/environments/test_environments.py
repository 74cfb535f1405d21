"""Environments are made once, alone, whole or not at all."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurmeval.environments.environments import ensure, environment_for, failure, is_made, prune
from slurmeval.errors import SlurmevalError, UserError
from tests.stand_ins.wheels import build_wheel

from .conftest import folder_of

MakeLock = Callable[..., Path]
DEADLINE_S = 60


@pytest.fixture
def environments(tmp_path: Path) -> Path:
    return tmp_path / "the environments"


def start_ensure(lock: Path, environments: Path) -> subprocess.Popen[str]:
    code = (
        "import sys; from pathlib import Path; from slurmeval.environments.environments import ensure;"
        "ensure(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(lock), str(environments)], stderr=subprocess.PIPE, text=True
    )


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_environment_holds_the_locked_packages_and_a_record(
    wheels: Path, make_lock: MakeLock, environments: Path
) -> None:
    lock = make_lock(
        "# slurmeval: check import apple; assert apple.VERSION == '1.0'", "apple==1.0", "pear==2.1"
    )
    said: list[str] = []
    made = ensure(lock, environments, said.append)
    assert made.folder == folder_of(environments, lock)
    assert is_made(made)
    record = json.loads(made.record.read_text())
    assert record["packages"] == {"apple": "1.0", "pear": "2.1"}
    assert "2 packages" in said[-1]
    assert [path for path in environments.iterdir() if "making" in path.name or "owner" in path.name] == []


def test_scripts_of_an_environment_run_after_its_renaming(
    wheels: Path, make_lock: MakeLock, environments: Path
) -> None:
    made = ensure(make_lock("apple==1.0"), environments)
    script = made.folder / "bin" / "apple-run"
    assert subprocess.run([script], capture_output=True, text=True, check=True).stdout == "apple runs\n"


def test_finished_environment_is_reused_without_a_word(
    wheels: Path, make_lock: MakeLock, environments: Path
) -> None:
    lock = make_lock("apple==1.0")
    first = ensure(lock, environments)
    before = first.record.stat().st_mtime_ns
    shutil.rmtree(wheels)
    said: list[str] = []
    assert ensure(lock, environments, said.append) == first
    assert (said, first.record.stat().st_mtime_ns) == ([], before)


def test_changed_lock_makes_another_environment(
    wheels: Path, make_lock: MakeLock, environments: Path
) -> None:
    first = ensure(make_lock("apple==1.0"), environments)
    second = ensure(make_lock("apple==1.0", "pear==2.1"), environments)
    assert first.folder != second.folder
    assert is_made(first)
    assert is_made(second)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"lock_sha256": "0000"}', None])
def test_environment_without_a_good_record_is_made_anew(
    wheels: Path, make_lock: MakeLock, environments: Path, damage: str | None
) -> None:
    lock = make_lock("apple==1.0")
    made = ensure(lock, environments)
    (made.folder / "lib" / "half-made").write_text("")
    if damage is None:
        made.record.unlink()
    else:
        made.record.write_text(damage)
    assert is_made(ensure(lock, environments))
    assert not (made.folder / "lib" / "half-made").exists()


def test_environment_whose_python_is_gone_is_made_anew(
    wheels: Path, make_lock: MakeLock, environments: Path
) -> None:
    lock = make_lock("apple==1.0")
    made = ensure(lock, environments)
    made.python.unlink()
    ensure(lock, environments)
    assert made.python.exists()


def test_only_listed_packages_come_with_no_deps(
    wheels: Path, make_lock: MakeLock, environments: Path
) -> None:
    build_wheel(wheels, "tree", "1.0", requires="apple")
    made = ensure(make_lock("# slurmeval: no-deps", "tree==1.0"), environments)
    assert json.loads(made.record.read_text())["packages"] == {"tree": "1.0"}


def test_torch_build_comes_from_the_configured_index_where_it_has_it(
    wheels: Path, make_lock: MakeLock, environments: Path
) -> None:
    build_wheel(wheels, "torch", "2.13.0+cpu")
    build_wheel(wheels, "torch", "2.13.0")
    made = ensure(make_lock("# slurmeval: torch-backend cpu", "torch==2.13.0"), environments)
    record = json.loads(made.record.read_text())
    assert record["packages"] == {"torch": "2.13.0+cpu"}
    assert record["torch_from"] == "the configured index"


def test_missing_package_is_named_in_one_line(wheels: Path, make_lock: MakeLock, environments: Path) -> None:
    lock = make_lock("apple==1.0", "plum==3.0")
    with pytest.raises(
        SlurmevalError, match=r"environment fruit: plum.* cannot be had .*\(log: .*\.log\)"
    ) as caught:
        ensure(lock, environments)
    assert "\n" not in str(caught.value)
    assert not is_made(environment_for(lock, environments))
    assert not any(path.is_dir() and path.name.startswith("fruit") for path in environments.iterdir())


def test_failing_check_leaves_no_environment(wheels: Path, make_lock: MakeLock, environments: Path) -> None:
    lock = make_lock("# slurmeval: check import plum", "apple==1.0")
    with pytest.raises(SlurmevalError, match="does not work: ModuleNotFoundError: No module named 'plum'"):
        ensure(lock, environments)
    assert not environment_for(lock, environments).folder.exists()


def test_too_little_room_is_said_before_anything_is_made(
    wheels: Path, make_lock: MakeLock, environments: Path
) -> None:
    lock = make_lock("# slurmeval: disk-mb 999999999", "apple==1.0")
    with pytest.raises(UserError, match=r"1000000\.0 GB are needed in .*, \d+\.\d GB are free"):
        ensure(lock, environments)
    assert list(environments.iterdir()) == []


def test_full_disk_is_said_in_one_line(wheels: Path, make_lock: MakeLock, environments: Path) -> None:
    """A limit on the size of files stands for the full disk."""
    build_wheel(wheels, "pear", "3.0", "VERSION = '" + "x" * 200_000 + "'\n")
    lock = make_lock("pear==3.0")
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from slurmeval.errors import UserError\n"
        "from slurmeval.environments.environments import ensure\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: ensure(Path(sys.argv[1]), Path(sys.argv[2]), lambda _: None)\n"
        "except UserError as error: print(error)\n"
    )
    argv = [sys.executable, "-c", code, str(lock), str(environments)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "environment fruit: the disk is full or over quota" in done.stdout
    assert is_made(ensure(lock, environments))


@pytest.mark.parametrize("stage", ["pyvenv.cfg", "lib/*/site-packages/apple.py"])
def test_killed_maker_leaves_nothing_that_is_taken_for_an_environment(
    wheels: Path, make_lock: MakeLock, environments: Path, stage: str
) -> None:
    lock = make_lock("# slurmeval: check import time; time.sleep(60)", "apple==1.0")
    maker = start_ensure(lock, environments)
    until(lambda: any(environments.glob(f"*.making-*/{stage}")))
    maker.send_signal(signal.SIGKILL)
    maker.communicate()
    assert not environment_for(lock, environments).folder.exists()
    # nothing that the killed one started goes on
    until(lambda: not any_process_with(str(environments)))
    lock = make_lock("apple==1.0")
    shutil.copytree(next(environments.glob("*.making-*")), folder_of(environments, lock), symlinks=True)
    assert is_made(ensure(lock, environments))


def any_process_with(text: str) -> bool:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if text in (process / "cmdline").read_text() and int(process.name) != os.getpid():
                return True
        except OSError:
            continue
    return False


def test_next_one_takes_over_from_a_killed_maker(
    wheels: Path, make_lock: MakeLock, environments: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    check = (
        f"import pathlib, time; [time.sleep(0.01) for _ in iter(pathlib.Path({str(gate)!r}).exists, True)]"
    )
    lock = make_lock(f"# slurmeval: check {check}", "apple==1.0")
    maker = start_ensure(lock, environments)
    until(lambda: any(environments.glob("*.making-*/lib/*/site-packages/apple.py")))
    maker.kill()
    maker.communicate()
    gate.touch()
    said: list[str] = []
    assert is_made(ensure(lock, environments, said.append))
    assert not any("waiting" in line for line in said)
    assert list(environments.glob("*.making-*")) == []


def test_second_of_two_waits_and_finds_it_made(
    wheels: Path, make_lock: MakeLock, environments: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    check = (
        f"import pathlib, time; [time.sleep(0.01) for _ in iter(pathlib.Path({str(gate)!r}).exists, True)]"
    )
    lock = make_lock(f"# slurmeval: check {check}", "apple==1.0")
    first = start_ensure(lock, environments)
    until(lambda: any(environments.glob("*.making-*/lib/*/site-packages/apple.py")))
    second = start_ensure(lock, environments)
    assert second.stderr is not None
    told = second.stderr.readline()
    gate.touch()
    assert (first.wait(DEADLINE_S), second.wait(DEADLINE_S)) == (0, 0)
    assert f"process {first.pid} on" in told
    assert "2 packages" not in second.stderr.read()
    for process in (first, second):
        process.communicate()
    assert is_made(environment_for(lock, environments))


def test_prune_removes_environments_of_earlier_locks_only(
    wheels: Path, make_lock: MakeLock, environments: Path
) -> None:
    old = ensure(make_lock("apple==1.0"), environments)
    lock = make_lock("pear==2.1")
    new = ensure(lock, environments)
    (environments / "something else").mkdir()
    assert prune(lock.parent.glob("*.lock"), environments) == [old.folder]
    assert not old.folder.exists()
    assert not old.record.exists()
    assert is_made(new)
    assert (environments / "something else").exists()


def test_failure_texts_name_the_host_and_hide_the_password() -> None:
    output = (
        "error: Failed to fetch: `https://me:secret@mirror.example/simple/apple/`\n  Caused by: dns error\n"
    )
    text = str(failure("environment fruit", output, Path("x.log")))
    assert "no connection to mirror.example" in text
    assert "secret" not in text
