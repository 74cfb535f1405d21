"""A server's folder with its files, and a gateway in front of it. All HTTP is real."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from slurmeval.files import write_json
from slurmeval.gateway.process import GatewayProcess, start
from slurmeval.gateway.settings import GatewayConfig
from slurmeval.processes import identity
from slurmeval.state.lease import Lease
from slurmeval.state.records import write
from tests.stand_ins.stand_in_server import StandIn

SERVER_KEY = "key-of-the-server"


class ServerFolder:
    """What a supervisor writes, written by hand."""

    def __init__(self, root: Path, model: str = "stand-in") -> None:
        self.root = root
        self.lease = root / "leases" / model / "bench.json"
        self.model = model
        self.use("0001")

    def use(self, number: str) -> None:
        """Moves the lease to another server."""
        self.folder = self.root / "state" / "servers" / self.model / number
        self.folder.mkdir(parents=True, exist_ok=True)
        self.take(self.folder)

    def take(self, server: Path | None, released: bool = False) -> None:
        """Writes the lease."""
        write(self.lease, Lease(server, self.model, "bench", "1", identity(), released=released))

    def state(self, status: str, reason: str | None = None, engine_run: int = 1, **more: Any) -> None:
        told = {"status": status, "reason": reason, "engine_run": engine_run} | more
        write_json(self.folder / "state.json", told)

    def publish(self, url: str, engine_run: int = 1, api_key: str = SERVER_KEY) -> None:
        self.state("ready", engine_run=engine_run)
        value = {"url": url, "api_key": api_key, "model": self.model, "engine_run": engine_run}
        write_json(self.folder / "endpoint.json", value, mode=0o600)

    def withdraw(self, status: str = "restarting") -> None:
        (self.folder / "endpoint.json").unlink(missing_ok=True)
        self.state(status)


@pytest.fixture
def server_folder(tmp_path: Path) -> ServerFolder:
    return ServerFolder(tmp_path / "results with spaces ü")


@pytest.fixture
def settings(server_folder: ServerFolder, tmp_path: Path) -> Callable[..., GatewayConfig]:
    def make(**changes: Any) -> GatewayConfig:
        values: dict[str, Any] = {
            "leases": [server_folder.lease],
            "log": tmp_path / "log",
            "ready_file": tmp_path / "gateway-ready.json",
            "max_in_flight": 16,
            "hold_s": 30.0,
            "retries": 3,
            "request_timeout_s": 20.0,
            "model": "stand-in",
        }
        return GatewayConfig(**values | changes)

    return make


@pytest.fixture
def gateway(settings: Callable[..., GatewayConfig], tmp_path: Path):  # type: ignore[no-untyped-def]
    """Starts gateways as processes; all are stopped at the end."""
    started: list[GatewayProcess] = []

    def run(**changes: Any) -> GatewayProcess:
        process = start(settings(**changes), tmp_path / "gateway")
        started.append(process)
        return process

    yield run
    for process in started:
        process.stop()


@pytest.fixture
async def server(server_folder: ServerFolder) -> AsyncIterator[StandIn]:
    async with StandIn(api_key=SERVER_KEY).running() as stand_in:
        server_folder.publish(stand_in.url)
        yield stand_in


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


def bearer(process: GatewayProcess) -> dict[str, str]:
    return {"Authorization": f"Bearer {process.api_key}"}


async def post(
    client: aiohttp.ClientSession, process: GatewayProcess, value: Any, path: str = "/v1/chat/completions"
) -> tuple[int, bytes]:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    headers = bearer(process) | {"Content-Type": "application/json"}
    async with client.post(process.url + path, data=io.BytesIO(body), headers=headers) as response:
        return response.status, await response.read()


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "stand-in", "messages": [{"role": "user", "content": text}]} | more


async def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)
