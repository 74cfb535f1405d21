"""Where a harness's command runs: in an environment, contained."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurmeval.containment import command as containment
from slurmeval.containment.scratch_dir import ScratchDir, scratch_dir
from slurmeval.errors import EvaluationFailed
from slurmeval.harnesses.runtimes import Contained, EnvironmentRuntime
from tests.lacking import lacking

PORT = 23_456
ASK = f"""
import os, socket
with socket.create_connection(("127.0.0.1", {PORT})) as gateway:
    gateway.sendall(b"question")
    print(gateway.recv(100).decode(), os.environ["TMPDIR"], os.environ["GIVEN"], os.environ.get("HIDDEN"))
"""


@pytest.fixture
def place() -> Iterator[ScratchDir]:
    with scratch_dir() as made:
        yield made


@pytest.fixture
def gateway(place: ScratchDir) -> Iterator[None]:
    """Says one question again."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place.socket))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(connection.recv(100))

        answering = threading.Thread(target=answer)
        answering.start()
        yield
        answering.join(10)


@pytest.fixture
def runtime() -> EnvironmentRuntime:
    return EnvironmentRuntime(Path(sys.prefix))


def contained(place: ScratchDir, cwd: Path, **options: bool) -> Contained:
    return Contained(cwd, cwd / "home", (), (cwd,), place, PORT, **options)


def test_a_command_in_an_environment_reaches_its_gateway_and_nothing_else(
    place: ScratchDir,
    gateway: None,
    runtime: EnvironmentRuntime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if (why := containment.unavailable()) is not None:
        lacking(f"no user namespaces: {why}")
    monkeypatch.setenv("HIDDEN", "a secret")
    env = {**runtime.variables(), "TMPDIR": "/elsewhere", "GIVEN": "given"}
    argv, env = runtime.command([runtime.python, "-c", ASK], env, contained(place, tmp_path, hostile=True))
    ran = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.returncode) == ("question /tmp given None\n", 0), ran.stderr


def test_an_environments_python_is_found_over_links(place: ScratchDir, tmp_path: Path) -> None:
    """As uv lays them out: the environment's leads to one in the home folder, that to its installation."""
    if (why := containment.unavailable()) is not None:
        lacking(f"no user namespaces: {why}")
    home, named, environment = tmp_path / "home", tmp_path / "versions", tmp_path / "environment"
    home.mkdir()
    (home / "secret").touch()
    named.symlink_to(Path(sys.base_prefix).parent)
    (home / "python3").symlink_to(named / Path(sys.base_prefix).name / "bin" / "python3")
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to("../../home/python3")
    (environment / "lib").symlink_to(Path(sys.prefix) / "lib")
    (environment / "pyvenv.cfg").write_text(f"home = {Path(sys.base_prefix) / 'bin'}\n")
    work = tmp_path / "work"
    work.mkdir()
    runtime = EnvironmentRuntime(environment)
    script = f"import os, ssl, sys; print(sys.prefix, os.listdir({str(home)!r}))"
    argv, env = runtime.command([runtime.python, "-c", script], {}, contained(place, work))
    ran = subprocess.run(argv, env=env, cwd=work, capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout == f"{environment} ['python3']\n", ran.stderr


def test_without_namespaces_what_the_model_writes_is_not_run(
    place: ScratchDir, runtime: EnvironmentRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containment, "unavailable", lambda: "the kernel says no")
    argv = [runtime.python, "-c", "pass"]
    assert runtime.command(argv, {}, contained(place, tmp_path)) == (argv, {})
    with pytest.raises(EvaluationFailed, match=r"needs user namespaces or an image .* the kernel says no"):
        runtime.command(argv, {}, contained(place, tmp_path, hostile=True))
