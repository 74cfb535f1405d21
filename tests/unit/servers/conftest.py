"""A server folder with a stand-in for vLLM, and a supervisor on it in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurmeval.files import read_json, write_json
from slurmeval.processes import identity
from slurmeval.servers.engine_process import session_members
from slurmeval.servers.folder import ServerFolder, numbered
from slurmeval.servers.leases import acquire
from slurmeval.state.records import write
from slurmeval.state.server import ServerJob
from slurmeval.state.server_spec import ServerSpec
from tests.server_status import wait_for_server

PROJECT = Path(__file__).parents[3]
FAST = {
    "poll_s": 0.05,
    "heartbeat_s": 0.2,
    "linger_s": 0.3,
    "unhealthy_s": 1.5,
    "backoff_s": 0.05,
    "grace_s": 3.0,
    "idle_grace_s": 3.0,
}
DEADLINE_S = 30.0


class Bench:
    """One model's place, its lessees, and its servers' processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.orders_path = root / "orders.json"
        self.timing = {**FAST, "max_restarts": 2}
        self.controller_path = root / "controller.json"
        self.controller = replace(identity(), token="run-1")
        write(self.controller_path, self.controller)
        python = root / "environment with 'quotes'" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
        self.spec = ServerSpec(
            model="smol",
            served_name="smol",
            weights=str(root / "weights"),
            manifest=str(root / "weights.json"),
            python=str(python),
            engine=str(PROJECT / "tests" / "stand_ins" / "dying_engine.py"),
            servers=str(root / "servers" / "smol"),
            leases=str(root / "leases" / "smol"),
            controller=str(self.controller_path),
            slots=str(root / "slots"),
            dtype="float32",
            env={"STAND_IN_ORDERS": str(self.orders_path)},
            ready_timeout_s=20,
            drain_s=5,
        )
        self.order({})
        self.environment: dict[str, str] = {}
        """What a batch system adds to the supervisor's."""
        self.supervisors: list[subprocess.Popen[bytes]] = []

    def order(self, *engine_runs: dict[str, Any]) -> None:
        """The stand-in's orders for its engine runs."""
        write_json(self.orders_path, list(engine_runs))

    def engine_runs(self) -> list[dict[str, Any]]:
        """What the stand-in recorded of its runs."""
        path = Path(f"{self.orders_path}.engine_runs")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def submit(self, folder: Path) -> None:
        """Starts a supervisor, with short times, instead of a job."""
        code = (
            "import json, sys; from pathlib import Path; "
            "from slurmeval.servers.supervisor import Supervisor; "
            "from slurmeval.servers.timing import Timing; "
            "Supervisor(Path(sys.argv[1]), Timing(**json.loads(sys.argv[2])))()"
        )
        argv = [sys.executable, "-c", code, str(folder), json.dumps(self.timing)]
        process = subprocess.Popen(argv, env={**os.environ, **self.environment})
        self.supervisors.append(process)
        write(ServerFolder(folder).job, ServerJob(str(process.pid), process=identity(process.pid)))

    def lease(self, benchmark: str = "arc", **changed: Any) -> Path:
        """Takes a lease and returns the server's folder."""
        lease = acquire(replace(self.spec, **changed), benchmark, self.controller, self.submit)
        assert lease.server is not None
        return lease.server

    def begin_run(self, token: str) -> None:
        """Another run takes over the folder: leases that name the one before no longer count."""
        self.controller = replace(self.controller, token=token)
        write(self.controller_path, self.controller)

    def lease_path(self, benchmark: str = "arc") -> Path:
        return Path(self.spec.leases) / f"{benchmark}.json"

    def folder(self, number: int = 1) -> ServerFolder:
        return ServerFolder(numbered(Path(self.spec.servers), number))

    def state(self, number: int = 1) -> dict[str, Any]:
        return read_json(self.folder(number).state) or {}

    def wait_for_status(self, status: str, number: int = 1) -> dict[str, Any]:
        return wait_for_server(lambda: self.state(number), status)

    def wait_for_exit(self, number: int = 1) -> int:
        return self.supervisors[number - 1].wait(DEADLINE_S)

    def leftovers(self) -> list[int]:
        """Processes of all engine runs that are still there."""
        return [pid for engine_run in self.engine_runs() for pid in session_members(engine_run["pid"])]

    def close(self) -> None:
        """Ends all processes. Raises AssertionError if a supervisor left the state diagram."""
        for process in self.supervisors:
            if process.poll() is None:
                process.kill()
                process.wait()
        for pid in self.leftovers():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    root = tmp_path / "a föld er"
    root.mkdir()
    bench = Bench(root)
    yield bench
    bench.close()
    for log in root.rglob("supervisor*.log"):
        assert "unexpected status" not in log.read_text(errors="replace")
