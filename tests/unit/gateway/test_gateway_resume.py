"""What survives a gateway: its death, a full disk, the next try."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import aiohttp
import psutil
import pytest

from slurmeval.files import read_json
from slurmeval.gateway.log import read
from slurmeval.gateway.process import GatewayFailed, GatewayProcess, start
from slurmeval.gateway.settings import GatewayConfig
from slurmeval.state.records import write
from tests.stand_ins.stand_in_server import StandIn

from .conftest import bearer, chat, post, until

Start = Callable[..., GatewayProcess]
Settings = Callable[..., GatewayConfig]


async def test_nothing_answered_is_asked_again_after_the_gateway_was_killed(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path
) -> None:
    first = await asyncio.to_thread(gateway)
    answers = {}
    for number in range(30):
        answers[number] = await post(client, first, chat(str(number)))
    os.kill(first.pid, signal.SIGKILL)
    second = await asyncio.to_thread(gateway)
    for number in range(40):
        status, body = await post(client, second, chat(str(number)))
        assert status == 200
        assert body == answers.get(number, (status, body))[1]
    assert len(server.seen) == 40
    await asyncio.to_thread(second.stop)
    assert sorted(record.replayed for record in read(tmp_path / "log")) == [0] * 10 + [1] * 30


async def test_requests_in_flight_at_the_kill_are_asked_again(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start
) -> None:
    first = await asyncio.to_thread(gateway)
    assert (await post(client, first, chat("done")))[0] == 200
    server.release.clear()
    asked = [asyncio.create_task(post(client, first, chat(str(number)))) for number in range(3)]
    await until(lambda: server.in_flight == 3)
    os.kill(first.pid, signal.SIGKILL)
    assert all(
        isinstance(e, aiohttp.ClientError) for e in await asyncio.gather(*asked, return_exceptions=True)
    )
    server.release.set()
    second = await asyncio.to_thread(gateway)
    for text in ("done", "0", "1", "2"):
        assert (await post(client, second, chat(text)))[0] == 200
    assert len(server.seen) == 7


async def test_identical_requests_at_once_get_different_stored_answers(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start
) -> None:
    def texts(answers: list[tuple[int, bytes]]) -> list[str]:
        return sorted(json.loads(body)["choices"][0]["message"]["content"][-2:] for _, body in answers)

    first = await asyncio.to_thread(gateway)
    answers = await asyncio.gather(*(post(client, first, chat("same", temperature=1)) for _ in range(5)))
    assert texts(answers) == ["#1", "#2", "#3", "#4", "#5"]
    await asyncio.to_thread(first.stop)
    second = await asyncio.to_thread(gateway)
    again = await asyncio.gather(*(post(client, second, chat("same", temperature=1)) for _ in range(7)))
    assert texts(again) == ["#1", "#2", "#3", "#4", "#5", "#6", "#7"]
    assert len(server.seen) == 7


async def test_stored_answers_need_no_server(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, settings: Settings
) -> None:
    first = await asyncio.to_thread(gateway)
    answer = await post(client, first, chat("a"))
    await asyncio.to_thread(first.stop)
    settings().leases[0].unlink()
    second = await asyncio.to_thread(gateway)
    assert await post(client, second, chat("a")) == answer


async def test_half_written_last_line_is_repaired_at_the_next_start(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path
) -> None:
    first = await asyncio.to_thread(gateway)
    for text in "ab":
        await post(client, first, chat(text))
    os.kill(first.pid, signal.SIGKILL)
    segment = tmp_path / "log" / "0001.jsonl"
    os.truncate(segment, segment.stat().st_size - 10)
    second = await asyncio.to_thread(gateway)
    for text in "ab":
        assert (await post(client, second, chat(text)))[0] == 200
    assert len(server.seen) == 3
    assert segment.read_bytes().endswith(b"}\n")
    assert "half-written" in (tmp_path / "gateway" / "gateway.log").read_text()


@pytest.mark.parametrize("limit", [5000, 100], ids=["log full", "no room for failed.json either"])
async def test_full_disk_answers_nothing_that_is_not_logged(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path, limit: int
) -> None:
    process = await asyncio.to_thread(gateway)
    assert (await post(client, process, chat("first")))[0] == 200
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    answered = 1
    while (result := await post(client, process, chat(f"{answered} " + "x" * 500)))[0] == 200:
        answered += 1
    error = json.loads(result[1])["error"]
    assert (result[0], error["type"]) == (503, "log_failed")
    assert "cannot be written: File too large" in error["message"]
    asked = len(server.seen)
    assert (await post(client, process, chat("another")))[0] == 503
    assert len(server.seen) == asked
    assert str(process.failure()) == error["message"]
    async with client.get(process.url + "/progress", headers=bearer(process)) as response:
        assert (await response.json())["failure"] == error["message"]
    await asyncio.to_thread(process.stop)
    assert len(list(read(tmp_path / "log"))) == answered
    again = await asyncio.to_thread(gateway)
    assert again.failure() is None


async def test_two_gateways_do_not_write_one_log(gateway: Start, settings: Settings, tmp_path: Path) -> None:
    process = await asyncio.to_thread(gateway)
    with pytest.raises(GatewayFailed, match=rf"process {process.pid} on .* is writing this log"):
        await asyncio.to_thread(start, settings(ready_file=tmp_path / "other.json"), tmp_path / "other")
    assert process.alive()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"format":"slurmeval-gateway-log","version":99}\n', "the log has version 99"),
        (b"something else\n", "no header of format slurmeval-gateway-log"),
    ],
)
def test_unreadable_log_stops_the_start_with_a_clear_error(
    settings: Settings, tmp_path: Path, line: bytes, message: str
) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "0001.jsonl").write_bytes(line)
    with pytest.raises(GatewayFailed, match=message):
        start(settings(), tmp_path / "gateway")


def test_bad_config_stops_the_start_with_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"lease": "x"}')
    command = [sys.executable, "-m", "slurmeval.gateway", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert f"{path}: object missing required field leases" in ended.stderr.splitlines()[-1]


async def test_sigterm_leaves_a_whole_log_and_gives_it_up(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path
) -> None:
    process = await asyncio.to_thread(gateway)
    await post(client, process, chat("a"))
    os.kill(process.pid, signal.SIGTERM)
    await until(lambda: not process.alive())
    assert str(process.failure()) == "the gateway ended with status 0"
    assert len(list(read(tmp_path / "log"))) == 1
    assert not (tmp_path / "log" / "owner.json").exists()


PARENT = """
import sys, time
from pathlib import Path
from slurmeval.gateway.process import start
from slurmeval.gateway.settings import GatewayConfig
from slurmeval.state.records import load
print(start(load(Path(sys.argv[1]), GatewayConfig), Path(sys.argv[2])).pid, flush=True)
time.sleep(60)
"""


async def test_gateway_ends_with_its_parent(settings: Settings, tmp_path: Path) -> None:
    write(tmp_path / "config.json", settings())
    arguments = [str(tmp_path / "config.json"), str(tmp_path / "gateway")]
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *arguments], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await asyncio.to_thread(parent.stdout.readline))
    parent.stdout.close()
    assert read_json(tmp_path / "gateway-ready.json")["pid"] == pid
    parent.kill()
    parent.wait()
    await until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie")


async def test_gateway_outlives_the_thread_that_started_it(
    server: StandIn, client: aiohttp.ClientSession, settings: Settings, tmp_path: Path
) -> None:
    started: list[GatewayProcess] = []
    thread = threading.Thread(target=lambda: started.append(start(settings(), tmp_path / "gateway")))
    thread.start()
    await asyncio.to_thread(thread.join)
    with started[0] as process:
        assert (await post(client, process, chat("a")))[0] == 200
        assert process.alive()
