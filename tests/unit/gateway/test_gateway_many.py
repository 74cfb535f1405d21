"""More requests at once than a process may have files open by default."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from slurmeval.gateway.accepting import shares, tcp_socket
from slurmeval.gateway.app import GatewayApp
from slurmeval.gateway.process import GatewayProcess
from slurmeval.gateway.run import PROGRESS_FILE
from slurmeval.gateway.settings import GatewayConfig
from slurmeval.state.evaluation import GatewayProgress
from slurmeval.state.records import read
from tests.stand_ins.stand_in_server import StandIn

from .conftest import ServerFolder, bearer, chat, until

Start = Callable[..., GatewayProcess]
SOFT = 1024


@pytest.fixture
def soft_limit(request: pytest.FixtureRequest) -> Iterator[Callable[[int], None]]:
    """Sets the limits that a process started from here inherits; its own go up again at the end."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda soft: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_thousand_requests_at_once_are_answered_at_a_soft_limit_of_1024(
    server: StandIn, gateway: Start, soft_limit: Callable[[int], None]
) -> None:
    server.faults.delay_s = 2.0
    soft_limit(SOFT)
    process = await asyncio.to_thread(gateway, max_in_flight=1000, request_timeout_s=120.0)
    soft_limit(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=timeout, headers=bearer(process)
    ) as session:

        async def ask(number: int) -> int:
            url = f"{process.url}/v1/chat/completions"
            async with session.post(url, json=chat(str(number))) as reply:
                await reply.read()
                return reply.status

        assert await asyncio.gather(*map(ask, range(1000))) == [200] * 1000
    assert server.most_in_flight > 500


async def test_places_of_evaluations_that_end_go_to_those_that_run_on(
    server: StandIn, server_folder: ServerFolder, gateway: Start, tmp_path: Path
) -> None:
    """32 seats, four times over: 11 for each of twelve, 26 of five, and all 32 once it is alone.

    It has 8 while the server has not counted it, as where a hundred begin together.
    """
    server.release.clear()
    progress = tmp_path / "log" / PROGRESS_FILE
    process = await asyncio.to_thread(gateway, max_in_flight=32, seats=32)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=bearer(process)) as session:

        async def ask(number: int) -> int:
            url = f"{process.url}/v1/chat/completions"
            async with session.post(url, json=chat(str(number))) as reply:
                return reply.status

        asking = asyncio.gather(*map(ask, range(60)))
        await until(lambda: server.in_flight == 8)
        await until(lambda: (told := read(progress, GatewayProgress)) is not None and told.reaches is True)
        assert server.in_flight == 8, "it has looked for its share"
        server_folder.state("ready", evaluations=12)
        await until(lambda: server.in_flight == 11)
        server_folder.state("ready", evaluations=5)
        await until(lambda: server.in_flight == 26)
        server_folder.state("ready", evaluations=1)
        await until(lambda: server.in_flight == 32)
        server.release.set()
        assert await asking == [200] * 60
    assert server.most_in_flight == 32


async def test_where_connections_are_few_an_idle_one_makes_place(
    settings: Callable[..., GatewayConfig],
) -> None:
    upstream: Any = SimpleNamespace(replicas=SimpleNamespace(known=True))
    unused: Any = None
    server = GatewayApp("key", settings(), upstream, unused, unused).server(connections=1)
    listening = tcp_socket("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/health"
    server.listen([listening])
    async with aiohttp.ClientSession() as first, aiohttp.ClientSession() as second:
        for client in (first, second, first):
            async with asyncio.timeout(10), client.get(url) as reply:
                assert (reply.status, await reply.read()) == (200, b'{"status":"ok"}')
    await server.stop_listening()
    await server.shutdown(0.1)


@pytest.mark.parametrize(
    ("limit", "in_flight", "expected"),
    [(20_000, 1000, (1000, 18_936)), (1024, 1000, (480, 480)), (1024, 16, (16, 944)), (64, 16, (1, 1))],
)
def test_connections_leave_descriptors_for_the_way_to_the_server(
    limit: int, in_flight: int, expected: tuple[int, int]
) -> None:
    assert shares(limit, in_flight) == expected
