"""The way from a container without network to its gateway."""

from __future__ import annotations

import os
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurmeval.containment import loopback
from tests.waiting import wait_for

ASK = """
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.sendall(b"x" * 300_000)
connection.shutdown(socket.SHUT_WR)
data = b""
while piece := connection.recv(65536):
    data += piece
print(len(data))
sys.exit(3)
"""


class Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.rfile.read())


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "s"
    server = socketserver.ThreadingUnixStreamServer(str(path), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield path
    server.shutdown()
    server.server_close()


def free_port() -> int:
    import socket as sockets

    with sockets.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def argv(socket: Path, port: int, *command: str) -> list[str]:
    return [sys.executable, loopback.__file__, str(socket), str(port), *command]


def test_what_is_sent_comes_back_whole_and_so_does_the_status(socket: Path) -> None:
    port = free_port()
    ran = subprocess.run(
        argv(socket, port, sys.executable, "-c", ASK, str(port)), capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (3, "300000\n"), ran.stderr


def test_sigterm_reaches_the_command(socket: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    script = f"trap 'exit 7' TERM; touch '{there}'; while true; do sleep 0.1; done"
    process = subprocess.Popen(argv(socket, free_port(), "/bin/bash", "-c", script))
    wait_for(there.exists, "the command runs")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(10) == 7


def test_a_command_that_was_killed_counts_as_failed(socket: Path) -> None:
    ran = subprocess.run(argv(socket, free_port(), "/bin/bash", "-c", "kill -9 $$"), check=False)
    assert ran.returncode == 128 + signal.SIGKILL
