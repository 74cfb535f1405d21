"""Requests that are asked once more: the harness does not notice, and a replay does not either."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from slurmeval.gateway.log import read
from slurmeval.gateway.process import GatewayProcess
from slurmeval.gateway.run import PROGRESS_FILE
from slurmeval.state.evaluation import GatewayProgress
from slurmeval.state.records import read as read_record
from tests.stand_ins.stand_in_server import StandIn

from .conftest import ServerFolder, chat, post, until

Start = Callable[..., GatewayProcess]


@pytest.mark.parametrize("stream", [False, True])
async def test_every_request_is_asked_again_and_the_second_answers_are_logged_apart(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path, stream: bool
) -> None:
    process = await asyncio.to_thread(gateway, noise_audit=1.0)
    answers = [await post(client, process, chat(f"question {number}", stream=stream)) for number in range(3)]
    again = tmp_path / "log" / "audit"
    await until(lambda: len(list(read(again))) == 3)
    await asyncio.to_thread(process.stop)
    first = {record.request_id: record for record in read(tmp_path / "log")}
    second = {record.request_id: record for record in read(again)}
    assert len(server.seen) == 6
    assert first.keys() == second.keys()
    assert all(record.key == first[name].key for name, record in second.items())
    replaying = await asyncio.to_thread(gateway, noise_audit=1.0)
    for number, (status, body) in enumerate(answers):
        asked = await post(client, replaying, chat(f"question {number}", stream=stream))
        assert asked == (status, body)
    await asyncio.to_thread(replaying.stop)
    assert len(server.seen) == 6  # a stored answer is not asked for again


async def test_a_share_of_the_requests_is_asked_again(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path
) -> None:
    process = await asyncio.to_thread(gateway, noise_audit=0.1)
    for number in range(100):
        await post(client, process, chat(f"question {number}"))
    await asyncio.to_thread(process.stop)
    assert 100 < len(server.seen) < 130  # by the hashes of the requests: always the same ones


async def test_nothing_is_asked_again_unless_told(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path
) -> None:
    process = await asyncio.to_thread(gateway)
    await post(client, process, chat("question"))
    await asyncio.to_thread(process.stop)
    assert len(server.seen) == 1
    assert not (tmp_path / "log" / "audit").exists()


async def test_an_answer_that_failed_is_not_asked_again(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path
) -> None:
    process = await asyncio.to_thread(gateway, noise_audit=1.0)
    status, _ = await post(client, process, b"no JSON")
    assert status == 400
    await asyncio.to_thread(process.stop)
    assert len(server.seen) == 1


async def test_a_server_lost_to_second_answers_alone_fails_no_evaluation(
    server: StandIn,
    server_folder: ServerFolder,
    client: aiohttp.ClientSession,
    gateway: Start,
    tmp_path: Path,
) -> None:
    process = await asyncio.to_thread(gateway, noise_audit=1.0, max_in_flight=1)
    server.faults.delays_s = [0.0, 3.0]
    asked = [asyncio.create_task(post(client, process, chat(f"question {number}"))) for number in range(2)]
    await until(lambda: len(server.seen) == 2)  # the second question; what is asked again comes after it
    server_folder.state("failed", "the GPU ran out of memory")
    async with asyncio.timeout(10):
        while (await client.get(process.url + "/health")).status == 200:
            await asyncio.sleep(0.02)
    assert [status for status, _ in await asyncio.gather(*asked)] == [200, 200]
    await asyncio.to_thread(process.stop)
    assert len(server.seen) == 2
    told = read_record(tmp_path / "log" / PROGRESS_FILE, GatewayProgress)
    assert told is not None and told.answered == 2
    assert told.failure is None
