"""What a gateway does while its server is away, dies, moves or is lost. The deaths are real."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from slurmeval.errors import ErrorClass
from slurmeval.files import read_json
from slurmeval.gateway.log import read
from slurmeval.gateway.process import GatewayProcess
from tests.stand_ins.stand_in_server import StandIn

from .conftest import SERVER_KEY, ServerFolder, bearer, chat, post, until

Start = Callable[..., GatewayProcess]
Spawn = Callable[..., tuple[subprocess.Popen[bytes], str]]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Starts stand-in servers as processes that can be killed."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*flags: str) -> tuple[subprocess.Popen[bytes], str]:
        ready_file = tmp_path / f"stand-in-{len(started)}.json"
        command = [sys.executable, "-m", "tests.stand_ins.stand_in_server", "--api-key", SERVER_KEY]
        process = subprocess.Popen([*command, "--ready-file", str(ready_file), *flags])
        started.append(process)
        deadline = time.monotonic() + 60
        while not ready_file.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return process, read_json(ready_file)["url"]

    yield run
    for process in started:
        process.kill()
        process.wait()


async def progress(client: aiohttp.ClientSession, process: GatewayProcess) -> dict[str, Any]:
    async with client.get(process.url + "/progress", headers=bearer(process)) as response:
        value: dict[str, Any] = await response.json()
        return value


async def until_holding(client: aiohttp.ClientSession, process: GatewayProcess, count: int) -> None:
    async with asyncio.timeout(20):
        while (await progress(client, process))["holding"] != count:
            await asyncio.sleep(0.01)


async def test_requests_are_held_until_the_server_is_there(
    server_folder: ServerFolder, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path
) -> None:
    process = await asyncio.to_thread(gateway, hold_s=0.2)  # it counts from the first server's leaving
    asked = [asyncio.create_task(post(client, process, chat(str(number)))) for number in range(5)]
    await until_holding(client, process, 5)
    async with client.get(process.url + "/health") as response:
        assert response.status == 503
    await asyncio.sleep(1)
    async with StandIn(api_key=SERVER_KEY).running() as server:
        server_folder.publish(server.url)
        assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 5
        assert len(server.seen) == 5
    assert (await progress(client, process))["holding"] == 0


async def test_server_killed_in_mid_request_costs_no_answer(
    server_folder: ServerFolder, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path, spawn: Spawn
) -> None:
    dying, url = await asyncio.to_thread(spawn, "--delay-s", "60")
    server_folder.publish(url, engine_run=1)
    process = await asyncio.to_thread(gateway, retries=0)
    asked = [asyncio.create_task(post(client, process, chat(str(number)))) for number in range(8)]

    async def seen() -> int:
        async with client.get(url + "/stand-in/seen") as response:
            return len((await response.json())["seen"])

    async with asyncio.timeout(30):
        while await seen() < 8:
            await asyncio.sleep(0.02)
    os.kill(dying.pid, signal.SIGKILL)
    await until_holding(client, process, 8)
    async with StandIn(api_key=SERVER_KEY).running() as server:
        server_folder.publish(server.url, engine_run=2)
        assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 8
        assert len(server.seen) == 8
    await asyncio.to_thread(process.stop)
    records = list(read(tmp_path / "log"))
    assert [(record.attempt, record.engine_run, record.http_status) for record in records] == [
        (2, 2, 200)
    ] * 8


async def test_lease_that_moves_to_another_server_is_followed(
    server: StandIn,
    server_folder: ServerFolder,
    client: aiohttp.ClientSession,
    gateway: Start,
    tmp_path: Path,
) -> None:
    process = await asyncio.to_thread(gateway)
    assert (await post(client, process, chat("a")))[0] == 200
    server_folder.state("stopped", "its time was up")
    server.faults.health_status = 503
    server.faults.fail_count = 1
    server.faults.fail_status = 503
    server_folder.use("0002")
    asked = asyncio.create_task(post(client, process, chat("b")))
    async with StandIn(api_key="another key").running() as second:
        server_folder.publish(second.url, engine_run=1, api_key="another key")
        assert (await asked)[0] == 200
        assert len(second.seen) == 1
    await asyncio.to_thread(process.stop)
    assert [record.server_id for record in read(tmp_path / "log")] == ["stand-in/0001", "stand-in/0002"]


async def test_lost_server_is_said_at_once_with_its_reason(
    server_folder: ServerFolder, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path
) -> None:
    process = await asyncio.to_thread(gateway)
    asked = asyncio.create_task(post(client, process, chat("a")))
    await until_holding(client, process, 1)
    server_folder.state("failed", "the GPU ran out of memory")
    async with asyncio.timeout(10):
        code, answer = await asked
    error = json.loads(answer)["error"]
    assert (code, error["type"]) == (503, "server_lost")
    assert error["message"] == "server stand-in/0001: the GPU ran out of memory"
    await asyncio.to_thread(process.stop)
    (record,) = read(tmp_path / "log")
    assert (record.http_status, record.attempt, record.answered) == (503, 0, False)


@pytest.mark.parametrize(
    "away", ["no lease", "no server", "released", "restarting", "draining", "stopped", "half-written"]
)
async def test_holding_ends_with_the_last_seen_reason(
    server: StandIn, server_folder: ServerFolder, client: aiohttp.ClientSession, gateway: Start, away: str
) -> None:
    process = await asyncio.to_thread(gateway, hold_s=0.5)
    assert (await post(client, process, chat("it answers first")))[0] == 200
    match away:
        case "no lease":
            server_folder.lease.unlink()
            server_folder.withdraw()
        case "no server":
            server_folder.take(None)
        case "released":
            server_folder.take(server_folder.folder, released=True)
        case "half-written":
            (server_folder.folder / "endpoint.json").write_text('{"url": ')
        case _:
            server_folder.state(away)
    async with asyncio.timeout(20):
        while (await client.get(process.url + "/health")).status == 200:
            await asyncio.sleep(0.02)
    code, answer = await post(client, process, chat("a"))
    error = json.loads(answer)["error"]
    assert (code, error["type"]) == (503, "server_lost")
    expected = {"no lease": "there is no", "half-written": "cannot be read now"}.get(away, away)
    assert error["message"].startswith("no server for 0.5 s: ")
    assert expected in error["message"]
    assert len(server.seen) == 1
    failed = await asyncio.to_thread(process.failure)
    assert failed is not None
    assert (failed.error_class, failed.reason) == (ErrorClass.SERVER_LOST, error["message"])


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_server_errors_are_tried_again(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path, status: int
) -> None:
    server.faults.fail_count, server.faults.fail_status = 1, status
    process = await asyncio.to_thread(gateway)
    assert (await post(client, process, chat("a")))[0] == 200
    await asyncio.to_thread(process.stop)
    assert [(record.attempt, record.http_status) for record in read(tmp_path / "log")] == [(2, 200)]


async def test_server_errors_are_passed_on_after_the_last_try(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path
) -> None:
    server.faults.fail_count = 100
    process = await asyncio.to_thread(gateway, retries=1)
    code, answer = await post(client, process, chat("a"))
    assert (code, answer.decode()) == (500, server.faults.fail_body)
    assert len(server.seen) == 2
    await asyncio.to_thread(process.stop)
    (record,) = read(tmp_path / "log")
    assert (record.http_status, record.attempt) == (500, 2)
    assert (record.error or "").startswith("the server answered 500: ")


@pytest.mark.parametrize("fault", ["break_count", "abort_count"])
async def test_request_broken_off_by_a_living_server_is_tried_again_so_often(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, fault: str
) -> None:
    setattr(server.faults, fault, 1)
    process = await asyncio.to_thread(gateway, retries=1)
    assert (await post(client, process, chat("a")))[0] == 200
    setattr(server.faults, fault, 100)
    code, answer = await post(client, process, chat("b"))
    assert code == 502
    assert json.loads(answer)["error"]["type"] in ("connection_broken", "answer_cut_off")
    assert len(server.seen) == 4


async def test_server_that_is_too_slow_is_not_asked_again(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start
) -> None:
    server.release.clear()
    process = await asyncio.to_thread(gateway, request_timeout_s=0.5)
    code, answer = await post(client, process, chat("a"))
    assert (code, json.loads(answer)["error"]["type"]) == (504, "timeout")
    assert len(server.seen) == 1
    await until(lambda: server.in_flight == 0)


async def test_draining_server_gets_no_new_request(
    server: StandIn, server_folder: ServerFolder, client: aiohttp.ClientSession, gateway: Start
) -> None:
    server.release.clear()
    process = await asyncio.to_thread(gateway)
    first = asyncio.create_task(post(client, process, chat("a")))
    await until(lambda: server.in_flight == 1)
    server_folder.state("draining")
    async with asyncio.timeout(20):
        while (await client.get(process.url + "/health")).status == 200:
            await asyncio.sleep(0.05)
    second = asyncio.create_task(post(client, process, chat("b")))
    await until_holding(client, process, 1)
    server.release.set()
    assert (await first)[0] == 200
    assert len(server.seen) == 1
    server_folder.publish(server.url, engine_run=2)
    assert (await second)[0] == 200


async def test_what_was_asked_of_an_engine_run_that_fell_silent_is_asked_of_the_next(
    server: StandIn, server_folder: ServerFolder, client: aiohttp.ClientSession, gateway: Start
) -> None:
    """A node that went down breaks no connection: nothing comes any more."""
    server.release.clear()
    process = await asyncio.to_thread(gateway, request_timeout_s=600.0)
    asked = asyncio.create_task(post(client, process, chat("a")))
    await until(lambda: server.in_flight == 1)
    async with StandIn(api_key=SERVER_KEY).running() as second:
        server_folder.publish(second.url, engine_run=2)
        assert (await asked)[0] == 200
        assert len(second.seen) == 1


async def test_what_was_asked_of_a_server_that_is_dead_is_asked_of_its_successor(
    server: StandIn, server_folder: ServerFolder, client: aiohttp.ClientSession, gateway: Start
) -> None:
    server.release.clear()
    process = await asyncio.to_thread(gateway, request_timeout_s=600.0)
    asked = asyncio.create_task(post(client, process, chat("a")))
    await until(lambda: server.in_flight == 1)
    server.faults.health_status = 503
    server_folder.use("0002")
    async with StandIn(api_key=SERVER_KEY).running() as second:
        server_folder.publish(second.url, engine_run=1)
        assert (await asked)[0] == 200
        assert len(second.seen) == 1
