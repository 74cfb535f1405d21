"""Several replicas behind one gateway, and leases that move: who is asked, and what it costs."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from slurmeval.errors import ErrorClass
from slurmeval.files import write_json
from slurmeval.gateway.log import Record, read
from slurmeval.gateway.process import GatewayProcess
from tests.stand_ins.stand_in_server import StandIn

from .conftest import SERVER_KEY, ServerFolder, bearer, chat, post, until

Start = Callable[..., GatewayProcess]
Serve = Callable[..., Any]


@pytest.fixture
def replicas(server_folder: ServerFolder) -> list[ServerFolder]:
    """The first replica's folder, and the second's."""
    return [server_folder, ServerFolder(server_folder.root, "stand-in@2")]


@pytest.fixture
def start(gateway: Start, replicas: list[ServerFolder]) -> Start:
    """Starts a gateway over both replicas."""
    return lambda **changes: gateway(leases=[replica.lease for replica in replicas], **changes)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server and publishes it in a folder."""
    async with AsyncExitStack() as stack:

        async def run(folder: ServerFolder | None, api_key: str | None = SERVER_KEY, **more: Any) -> StandIn:
            server = await stack.enter_async_context(StandIn(api_key=api_key, **more).running())
            if folder is not None:
                folder.publish(server.url, api_key=SERVER_KEY)
            return server

        yield run


async def ask(client: aiohttp.ClientSession, process: GatewayProcess, numbers: range) -> list[int]:
    asked = [post(client, process, chat(str(number))) for number in numbers]
    return [status for status, _ in await asyncio.gather(*asked)]


async def health(client: aiohttp.ClientSession, process: GatewayProcess) -> int:
    async with client.get(process.url + "/health") as response:
        return response.status


async def progress(client: aiohttp.ClientSession, process: GatewayProcess) -> dict[str, Any]:
    async with client.get(process.url + "/progress", headers=bearer(process)) as response:
        value: dict[str, Any] = await response.json()
        return value


async def known_everywhere(process: GatewayProcess, log: Path, *server_ids: str) -> None:
    """Waits until the gateway has met these servers."""
    words = log.parent / "gateway" / "gateway.log"
    await until(lambda: all(f"server {name} answers" in words.read_text() for name in server_ids))


async def records(process: GatewayProcess, log: Path) -> list[Record]:
    await asyncio.to_thread(process.stop)
    return list(read(log))


async def test_requests_are_spread_over_the_replicas(
    replicas: list[ServerFolder], serve: Serve, start: Start, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    servers = [await serve(replica) for replica in replicas]
    process = await asyncio.to_thread(start)
    await known_everywhere(process, tmp_path / "log", "stand-in/0001", "stand-in@2/0001")
    for server in servers:
        server.release.clear()
    asked = asyncio.create_task(ask(client, process, range(10)))
    await until(lambda: sum(server.in_flight for server in servers) == 10)
    assert [server.in_flight for server in servers] == [5, 5]
    for server in servers:
        server.release.set()
    assert await asked == [200] * 10
    for number in range(6):  # one at a time: in turns
        assert await ask(client, process, range(100 + number, 101 + number)) == [200]
    assert [len(server.seen) for server in servers] == [8, 8]
    found = await records(process, tmp_path / "log")
    assert Counter(record.server_id for record in found) == {"stand-in/0001": 8, "stand-in@2/0001": 8}


async def test_the_replica_with_less_under_way_is_asked(
    replicas: list[ServerFolder], serve: Serve, start: Start, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    slow, fast = [await serve(replica) for replica in replicas]
    slow.release.clear()
    process = await asyncio.to_thread(start)
    await known_everywhere(process, tmp_path / "log", "stand-in/0001", "stand-in@2/0001")
    first = asyncio.create_task(ask(client, process, range(4)))
    await until(lambda: slow.in_flight >= 1 and len(slow.seen) + len(fast.seen) == 4)
    stuck = slow.in_flight
    for number in range(10, 20):
        await asyncio.wait_for(ask(client, process, range(number, number + 1)), 10)
    assert slow.in_flight == stuck
    slow.release.set()
    assert await first == [200] * 4


async def test_a_replica_that_goes_away_loses_no_request_and_a_new_one_takes_its_share(
    replicas: list[ServerFolder], serve: Serve, start: Start, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    second = await serve(replicas[1])
    async with StandIn(api_key=SERVER_KEY).running() as first:
        replicas[0].publish(first.url)
        process = await asyncio.to_thread(start, retries=0)
        await known_everywhere(process, tmp_path / "log", "stand-in/0001", "stand-in@2/0001")
        first.release.clear()
        second.release.clear()
        asked = asyncio.create_task(ask(client, process, range(8)))
        await until(lambda: first.in_flight == second.in_flight == 4)
        second.release.set()
    assert await asked == [200] * 8  # those at the first went to the second
    assert await ask(client, process, range(20, 28)) == [200] * 8
    assert len(second.seen) == 16
    later = await serve(None)
    replicas[0].publish(later.url, engine_run=2)
    asked_so_far = 100
    async with asyncio.timeout(20):
        while not later.seen:
            assert await ask(client, process, range(asked_so_far, asked_so_far + 2)) == [200] * 2
            asked_so_far += 2
    assert await ask(client, process, range(40, 48)) == [200] * 8
    assert len(later.seen) >= 3


async def test_a_replica_that_answers_500_to_everything_costs_its_answers_only(
    replicas: list[ServerFolder], serve: Serve, start: Start, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    bad, good = [await serve(replica) for replica in replicas]
    bad.faults.fail_count = 10**6
    process = await asyncio.to_thread(start, retries=0)
    await known_everywhere(process, tmp_path / "log", "stand-in/0001", "stand-in@2/0001")
    for number in range(40):
        assert await ask(client, process, range(number, number + 1)) == [200]
    assert len(good.seen) == 40
    assert 3 <= len(bad.seen) <= 8  # it rests after three failures, and is tried again now and then
    assert (await progress(client, process))["failing"] is None
    bad.faults.fail_count = 0
    good.faults.health_status = 503
    replicas[1].withdraw()
    assert await ask(client, process, range(50, 54)) == [200] * 4  # it has recovered
    assert {record.http_status for record in await records(process, tmp_path / "log")} == {200}


@pytest.mark.parametrize("away", ["no lease", "names no server", "restarting"])
async def test_only_the_loss_of_all_is_a_loss(
    replicas: list[ServerFolder], serve: Serve, start: Start, client: aiohttp.ClientSession, away: str
) -> None:
    replicas[0].state("failed", "bad flag")
    if away == "no lease":
        replicas[1].lease.unlink()
    elif away == "names no server":
        replicas[1].take(None)
    else:
        replicas[1].withdraw()
    process = await asyncio.to_thread(start)
    asked = asyncio.create_task(ask(client, process, range(2)))
    async with asyncio.timeout(10):
        while (await progress(client, process))["holding"] < 2:
            await asyncio.sleep(0.02)
    replicas[1].use("0002")
    server = await serve(replicas[1])
    assert await asked == [200] * 2
    assert len(server.seen) == 2
    replicas[1].state("failed", "no memory")
    async with asyncio.timeout(10):
        while await health(client, process) == 200:
            await asyncio.sleep(0.02)
    code, answer = await post(client, process, chat("late"))
    error = json.loads(answer)["error"]
    assert (code, error["type"]) == (503, "server_lost")
    assert error["message"] == "server stand-in/0001: bad flag; server stand-in@2/0002: no memory"


async def test_a_lease_moves_to_a_successor_without_a_gap_and_without_an_error(
    server_folder: ServerFolder, serve: Serve, gateway: Start, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    old = await serve(server_folder)
    old.faults.delay_s = 0.2
    process = await asyncio.to_thread(gateway, retries=0)
    codes: list[int] = []
    held: list[int] = []
    done = asyncio.Event()

    async def keep_asking(worker: int) -> None:
        number = 0
        while not done.is_set():
            number += 1
            codes.append((await post(client, process, chat(f"{worker} {number}")))[0])

    async def watch() -> None:
        while not done.is_set():
            held.append((await progress(client, process))["holding"])
            await asyncio.sleep(0.01)

    assert await ask(client, process, range(1)) == [200]
    workers = [asyncio.create_task(keep_asking(worker)) for worker in range(6)]
    workers.append(asyncio.create_task(watch()))
    await until(lambda: len(codes) >= 12)
    server_folder.use("0002")  # seen before the successor's endpoint is, as on a network file system
    await asyncio.sleep(3)
    at_old = len(old.seen)
    assert len(codes) > 40
    new = await serve(server_folder)
    new.faults.delay_s = 0.2
    await until(lambda: len(new.seen) >= 12)
    assert old.in_flight == 0
    assert len(old.seen) >= at_old
    stopped_at = len(old.seen)
    await until(lambda: len(new.seen) >= 24)
    assert len(old.seen) == stopped_at
    done.set()
    await asyncio.gather(*workers)
    assert set(codes) == {200}
    assert set(held) == {0}
    found = await records(process, tmp_path / "log")
    assert {record.attempt for record in found} == {1}
    assert {record.server_id for record in found} == {"stand-in/0001", "stand-in/0002"}


async def test_a_lease_that_vanishes_for_a_while_is_no_gap(
    server_folder: ServerFolder, serve: Serve, gateway: Start, client: aiohttp.ClientSession
) -> None:
    server = await serve(server_folder)
    process = await asyncio.to_thread(gateway, hold_s=0.1)
    assert await ask(client, process, range(1)) == [200]
    server_folder.lease.unlink()
    await asyncio.sleep(3)
    assert await ask(client, process, range(1, 5)) == [200] * 4
    server_folder.withdraw("draining")
    async with asyncio.timeout(10):
        while await health(client, process) == 200:
            await asyncio.sleep(0.02)
    server_folder.use("0002")
    server_folder.publish(server.url)
    async with asyncio.timeout(10):
        while await health(client, process) == 503:
            await asyncio.sleep(0.02)
    assert await ask(client, process, range(5, 9)) == [200] * 4


async def test_a_server_that_is_gone_is_not_asked(
    server_folder: ServerFolder, serve: Serve, gateway: Start, client: aiohttp.ClientSession
) -> None:
    """The batch system ended its job; its files say what they said before."""
    server = await serve(server_folder)
    write_json(server_folder.folder / "gone", {"state": "CANCELLED", "reason": "cancelled by user 7"})
    process = await asyncio.to_thread(gateway)
    asked = asyncio.create_task(ask(client, process, range(1)))
    await asyncio.sleep(1)
    assert server.seen == []
    server_folder.use("0002")
    server_folder.publish(server.url)
    assert await asked == [200]


@pytest.mark.parametrize("stranger", ["another key", "no key", "another model", "no models"])
async def test_a_strangers_server_is_never_taken_for_ours(
    server_folder: ServerFolder,
    serve: Serve,
    gateway: Start,
    client: aiohttp.ClientSession,
    tmp_path: Path,
    stranger: str,
) -> None:
    if stranger == "another key":
        other = await serve(server_folder, api_key="theirs")
        said = "it refuses our key (status 401)"
    elif stranger == "no key":
        other = await serve(server_folder, api_key=None)
        said = "it wants no key"
    else:
        other = await serve(server_folder, model="" if stranger == "no models" else "theirs")
        other.faults.no_models = stranger == "no models"
        said = "it serves no model, not stand-in" if stranger == "no models" else "it serves theirs, not"
    process = await asyncio.to_thread(gateway)
    asked = asyncio.create_task(ask(client, process, range(3)))
    await asyncio.sleep(1.5)
    assert await health(client, process) == 503
    assert other.seen == []
    ours = await serve(server_folder)
    assert await asked == [200] * 3
    assert len(ours.seen) == 3
    await asyncio.to_thread(process.stop)
    server_folder.publish(other.url)
    process = await asyncio.to_thread(gateway)
    assert await ask(client, process, range(3)) == [200] * 3  # from the log
    again = await asyncio.to_thread(gateway, log=tmp_path / "another log", hold_s=0.2)
    server_folder.publish(ours.url)
    assert await ask(client, again, range(1)) == [200]
    server_folder.publish(other.url, engine_run=2)
    async with asyncio.timeout(10):
        while await health(client, again) == 200:
            await asyncio.sleep(0.02)
    code, answer = await post(client, again, chat("x"))
    assert code == 503
    assert said in json.loads(answer)["error"]["message"]


@pytest.mark.parametrize("stranger", [{"api_key": "theirs"}, {"model": "theirs"}])
async def test_a_stranger_on_the_port_of_a_server_that_ended_is_noticed_by_its_answer(
    server_folder: ServerFolder, serve: Serve, gateway: Start, client: aiohttp.ClientSession, stranger: Any
) -> None:
    async with StandIn(api_key=SERVER_KEY).running() as ours:
        server_folder.publish(ours.url)
        process = await asyncio.to_thread(gateway)
        assert await ask(client, process, range(1)) == [200]
        port = int(ours.url.rpartition(":")[2])
    async with StandIn(**{"api_key": SERVER_KEY} | stranger).running(port):
        asked = asyncio.create_task(ask(client, process, range(1, 4)))
        async with asyncio.timeout(20):
            while (await progress(client, process))["holding"] < 3:
                await asyncio.sleep(0.02)
    await serve(server_folder)
    assert await asked == [200] * 3


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_of_another_model_is_never_passed_on(
    server_folder: ServerFolder,
    serve: Serve,
    gateway: Start,
    client: aiohttp.ClientSession,
    tmp_path: Path,
    stream: bool,
) -> None:
    server = await serve(server_folder)
    server.faults.answers_as = "theirs"
    process = await asyncio.to_thread(gateway, retries=1)
    code, answer = await post(client, process, chat("a", stream=stream))
    error = json.loads(answer)["error"]
    assert (code, error["type"]) == (502, "wrong_model")
    assert error["message"] == "the server answered for another model, 'theirs', not 'stand-in'"
    assert len(server.seen) == 2
    server.faults.answers_as = None
    assert (await post(client, process, chat("a", stream=stream)))[0] == 200
    wrong, right = await records(process, tmp_path / "log")
    assert (wrong.http_status, wrong.answered, right.answered) == (502, False, True)


async def test_an_answer_of_another_model_is_asked_for_elsewhere(
    replicas: list[ServerFolder], serve: Serve, start: Start, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    wrong, right = [await serve(replica) for replica in replicas]
    wrong.faults.answers_as = "theirs"
    process = await asyncio.to_thread(start, retries=0)
    await known_everywhere(process, tmp_path / "log", "stand-in/0001", "stand-in@2/0001")
    assert await ask(client, process, range(12)) == [200] * 12
    assert len(right.seen) == 12


async def test_a_server_that_answers_500_to_everything_is_said_to_be_lost(
    server_folder: ServerFolder, serve: Serve, gateway: Start, client: aiohttp.ClientSession
) -> None:
    server = await serve(server_folder)
    process = await asyncio.to_thread(gateway, retries=0)
    assert await ask(client, process, range(1)) == [200]
    assert await asyncio.to_thread(process.failing) is None
    server.faults.fail_count = 10**6
    assert await ask(client, process, range(10, 13)) == [500] * 3
    failing = await asyncio.to_thread(process.failing)
    assert failing is not None
    assert failing.error_class == ErrorClass.SERVER_LOST
    assert failing.reason.startswith("the server answers 500 to everything (3 in a row over ")
    assert await asyncio.to_thread(process.failure) is None  # too early to give up
    server.faults.fail_count = 0
    assert await ask(client, process, range(1, 2)) == [200]
    assert await asyncio.to_thread(process.failing) is None
