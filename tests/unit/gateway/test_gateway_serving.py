"""What the harness sees of a gateway whose server answers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from slurmeval.gateway.connection import Connections
from slurmeval.gateway.log import read
from slurmeval.gateway.process import GatewayProcess
from tests.stand_ins.stand_in_server import StandIn

from .conftest import SERVER_KEY, bearer, chat, post

Start = Callable[..., GatewayProcess]


@pytest.mark.parametrize(
    ("path", "value", "tokens"),
    [
        ("/v1/chat/completions", chat("hello wörld \u2028 😀"), (4, 3)),
        ("/v1/completions", {"model": "stand-in", "prompt": "a b c"}, (3, 3)),
        ("/v1/completions", {"model": "stand-in", "prompt": [[1, 2]], "echo": True, "logprobs": 1}, (2, 3)),
        ("/v1/embeddings", {"model": "stand-in", "input": ["a", "b c"]}, (3, None)),
    ],
)
async def test_each_kind_is_passed_through_and_logged(
    server: StandIn,
    client: aiohttp.ClientSession,
    gateway: Start,
    tmp_path: Path,
    path: str,
    value: Any,
    tokens: Any,
) -> None:
    process = await asyncio.to_thread(gateway)
    status, answer = await post(client, process, value, path)
    assert status == 200
    assert server.seen[0]["raw"] == json.dumps(value).encode()
    assert server.seen[0]["headers"]["Authorization"] == f"Bearer {SERVER_KEY}"
    await asyncio.to_thread(process.stop)
    (record,) = read(tmp_path / "log")
    assert record.request == value
    assert record.response_body == answer
    assert (record.endpoint, record.http_status, record.attempt, record.server_id, record.engine_run) == (
        path, 200, 1, "stand-in/0001", 1,
    )  # fmt: skip
    assert (record.prompt_tokens, record.completion_tokens) == tokens
    assert 0 < record.latency_ms < 30_000


async def test_models_and_health(server: StandIn, client: aiohttp.ClientSession, gateway: Start) -> None:
    process = await asyncio.to_thread(gateway)
    async with client.get(process.url + "/v1/models", headers=bearer(process)) as response:
        assert (await response.json())["data"][0]["id"] == "stand-in"
    async with client.get(process.url + "/health") as response:
        assert response.status == 200


async def test_stream_comes_piece_by_piece_and_is_logged_whole(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path
) -> None:
    server.faults.event_delay_s = 0.1
    value = chat("count", stream=True, stream_options={"include_usage": True})
    process = await asyncio.to_thread(gateway)
    headers = bearer(process)
    pieces = []
    async with client.post(process.url + "/v1/chat/completions", json=value, headers=headers) as response:
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        async for piece in response.content.iter_any():
            pieces.append(piece)
    assert len(pieces) >= 4
    assert pieces[-1].endswith(b"data: [DONE]\n\n")
    await asyncio.to_thread(process.stop)
    (record,) = read(tmp_path / "log")
    assert record.response_body == b"".join(pieces)
    assert (record.prompt_tokens, record.completion_tokens, record.finish_reason) == (1, 3, "stop")
    assert record.ttft_ms is not None
    assert record.ttft_ms + 200 < record.latency_ms

    again = await asyncio.to_thread(gateway)
    assert await post(client, again, value) == (200, b"".join(pieces))
    assert len(server.seen) == 1


@pytest.mark.parametrize("fault", [{"break_stream_after": 2}, {"stream_error": True}])
async def test_broken_stream_is_seen_by_the_harness_and_not_replayed(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path, fault: dict[str, Any]
) -> None:
    vars(server.faults).update(fault)
    process = await asyncio.to_thread(gateway)
    if "stream_error" in fault:
        status, body = await post(client, process, chat("count", stream=True))
        assert (status, b"made to fail" in body) == (200, True)
    else:
        with pytest.raises(aiohttp.ClientPayloadError):
            await post(client, process, chat("count", stream=True))
    await asyncio.to_thread(process.stop)
    (record,) = read(tmp_path / "log")
    assert record.error is not None
    assert not record.answered
    vars(server.faults).update(break_stream_after=-1, stream_error=False)
    process = await asyncio.to_thread(gateway)
    assert (await post(client, process, chat("count", stream=True)))[0] == 200
    assert len(server.seen) == 2


@pytest.mark.parametrize("header", [None, "Bearer ", "Bearer wrong", f"Bearer {SERVER_KEY}", "Basic \udcff"])
async def test_wrong_key_is_refused(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, header: str | None
) -> None:
    process = await asyncio.to_thread(gateway)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(process.url.rpartition(":")[2]))
    line = "" if header is None else f"Authorization: {header}\r\n"
    request = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\n{line}Content-Length: 2\r\n\r\n{{}}"
    writer.write(request.encode("utf-8", "surrogateescape"))
    status = await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert status.split()[1] in (b"401", b"400")
    assert server.seen == []


async def test_no_key_is_ever_logged(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path
) -> None:
    process = await asyncio.to_thread(gateway)
    await post(client, process, chat("x"))
    await post(client, process, chat("x"), path="/v1/chat/completions?api-key=in-the-query")
    await asyncio.to_thread(process.stop)
    files = [path for folder in ("log", "gateway") for path in (tmp_path / folder).iterdir()]
    text = b"".join(path.read_bytes() for path in files)
    assert len(files) >= 4
    for key in (SERVER_KEY, process.api_key, "in-the-query"):
        assert key.encode() not in text


async def test_ready_file_is_for_its_owner_only(server: StandIn, gateway: Start, tmp_path: Path) -> None:
    process = await asyncio.to_thread(gateway)
    assert (tmp_path / "gateway-ready.json").stat().st_mode & 0o777 == 0o600
    await asyncio.to_thread(process.stop)
    assert not (tmp_path / "gateway-ready.json").exists()


async def test_no_more_than_max_in_flight_reach_the_server(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start
) -> None:
    server.release.clear()
    process = await asyncio.to_thread(gateway, max_in_flight=4)
    asked = [asyncio.create_task(post(client, process, chat(str(number)))) for number in range(20)]
    async with asyncio.timeout(10):
        while server.in_flight < 4:
            await asyncio.sleep(0.01)
    server.release.set()
    assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 20
    assert server.most_in_flight == 4
    assert len(server.seen) == 20


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b'{"broken": ',
        b"\xff\xfe\x00",
        b'{"prompt": "\\ud800", "model": "stand-in"}',
        b'{\n "model": "stand-in",\r\n "prompt": "a\\nb"\n}\n',
        b'{"model": "stand-in", "prompt": "a", "x": NaN}',
        b'\xef\xbb\xbf{"model": "stand-in"}',
        b'{"request_id": "0001-000001", "response": "\\"}"}',
        b"[" * 2000 + b"]" * 2000,
        json.dumps({"model": "stand-in", "prompt": "é😀" * 1_000_000}).encode(),
    ],
    ids=lambda body: repr(body[:24]),
)
async def test_hostile_bodies_reach_the_server_as_they_are_and_the_log_stays_whole(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path, body: bytes
) -> None:
    process = await asyncio.to_thread(gateway)
    status, _ = await post(client, process, body, path="/v1/completions")
    assert server.seen[0]["raw"] == body
    assert (await post(client, process, {"model": "stand-in", "prompt": "after"}, "/v1/completions"))[
        0
    ] == 200
    await asyncio.to_thread(process.stop)
    hostile, after = read(tmp_path / "log")
    assert hostile.request_body == body.replace(b"\r", b" ").replace(b"\n", b" ")
    assert hostile.http_status == status
    assert after.answered


async def test_too_long_a_request_is_refused(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start
) -> None:
    process = await asyncio.to_thread(gateway)
    status, answer = await post(client, process, b" " * (64 * 2**20 + 1))
    assert (status, json.loads(answer)["error"]["type"]) == (413, "too_large")
    assert server.seen == []


async def test_client_errors_are_passed_on_once_logged_and_never_replayed(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path
) -> None:
    for _ in range(2):
        process = await asyncio.to_thread(gateway)
        server.faults.fail_count, server.faults.fail_status = 1, 400
        status, answer = await post(client, process, chat("x"))
        assert (status, answer.decode()) == (400, server.faults.fail_body)
        await asyncio.to_thread(process.stop)
    assert len(server.seen) == 2
    records = [(record.http_status, record.error) for record in read(tmp_path / "log")]
    assert records == [(400, "the server answered 400: made to fail")] * 2


async def test_an_answer_that_the_server_withholds_counts_as_none_and_is_asked_for_again(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path
) -> None:
    server.faults.filter_text = "bad"
    for _ in range(2):
        process = await asyncio.to_thread(gateway)
        for text in ("bad", "good"):
            assert (await post(client, process, chat(text)))[0] == 200
        assert await asyncio.to_thread(process.failing) is None
        await asyncio.to_thread(process.stop)
    assert len(server.seen) == 3
    records = [record.error for record in read(tmp_path / "log") if not record.answered]
    assert records == ["the server's filter withheld the answer (finish_reason content_filter)"] * 2


async def test_progress_counts(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path
) -> None:
    process = await asyncio.to_thread(gateway)
    await post(client, process, chat("a b"))
    await post(client, process, b"{}")
    await asyncio.to_thread(process.stop)
    process = await asyncio.to_thread(gateway)
    await post(client, process, chat("a b"))
    async with client.get(process.url + "/progress", headers=bearer(process)) as response:
        report = await response.json()
    assert report["reaches"] in (True, False)  # an answer from the log needs no server
    expected = {"answered": 1, "replayed": 1, "errors": 0, "prompt_tokens": 2, "completion_tokens": 3}
    expected |= {"in_flight": 0, "holding": 0, "stored": 1}
    expected |= {"failure": None, "failure_class": None, "failing": None}
    assert report == expected | {"reaches": report["reaches"], "away": report["away"]}
    assert (report["away"] is None) == report["reaches"]
    await asyncio.to_thread(process.stop)
    written = json.loads((tmp_path / "log" / "progress.json").read_text())
    assert written == expected | {"format": 1, "reaches": written["reaches"], "away": written["away"]}


async def test_harness_that_hangs_up_frees_the_server(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path
) -> None:
    server.release.clear()
    process = await asyncio.to_thread(gateway)
    asked = asyncio.create_task(post(client, process, chat("x")))
    async with asyncio.timeout(10):
        while server.in_flight == 0:
            await asyncio.sleep(0.01)
        asked.cancel()
        while server.in_flight:
            await asyncio.sleep(0.01)
    await asyncio.to_thread(process.stop)
    (record,) = read(tmp_path / "log")
    assert (record.http_status, record.answered) == (499, False)


@pytest.mark.parametrize(
    ("path", "own", "sent"),
    [
        ("/v1/chat/completions", {}, 64),
        ("/v1/chat/completions", {"max_tokens": None}, 64),
        ("/v1/chat/completions", {"max_tokens": 256}, 256),
        ("/v1/chat/completions", {"max_completion_tokens": 256}, None),
        ("/v1/completions", {}, 64),
        ("/v1/completions", {"max_tokens": 1}, 1),
        ("/v1/embeddings", {}, None),
    ],
)
async def test_the_models_limit_is_a_default_and_no_ceiling(
    server: StandIn,
    client: aiohttp.ClientSession,
    gateway: Start,
    path: str,
    own: dict[str, Any],
    sent: int | None,
) -> None:
    process = await asyncio.to_thread(gateway, max_tokens=64)
    body = {**chat("hello"), "prompt": "hello", "input": ["a"], **own}
    status, _ = await post(client, process, body, path)
    assert (status, json.loads(server.seen[0]["raw"]).get("max_tokens")) == (200, sent)


async def test_where_the_prompt_leaves_less_than_the_default_the_answer_gets_what_is_left(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start
) -> None:
    server.faults.fail_count, server.faults.fail_status = 1, 400
    process = await asyncio.to_thread(gateway, max_tokens=64)
    status, _ = await post(client, process, chat("a long prompt"))
    assert status == 200
    assert [json.loads(seen["raw"])["max_tokens"] for seen in server.seen] == [64, None]


@pytest.mark.parametrize("stream", [False, True])
async def test_thoughts_stay_in_the_log_and_the_harness_gets_the_answer(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, tmp_path: Path, stream: bool
) -> None:
    server.faults.answer_text = "<think>Is it 5? No.</think>4"

    async def answered(process: GatewayProcess) -> str:
        status, body = await post(client, process, chat("2 + 2?", stream=stream))
        assert status == 200
        events = [line[6:] for line in body.split(b"\n\n") if line and b"[DONE]" not in line]
        choices = [json.loads(event)["choices"] for event in (events if stream else [body])]
        parts = [choice.get("delta") or choice.get("message") or {} for (choice, *_) in choices if choice]
        return "".join(part.get("content") or "" for part in parts)

    process = await asyncio.to_thread(gateway, reasons=True, thoughts=["<think>", "</think>"])
    assert await answered(process) == "4"
    await asyncio.to_thread(process.stop)
    (record,) = read(tmp_path / "log")
    assert b"</think>" in (record.response_body or b"")
    process = await asyncio.to_thread(gateway, reasons=True, thoughts=["<think>", "</think>"])
    assert await answered(process) == "4"
    assert len(server.seen) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tags", [None, ["<think>", "</think>"]])
async def test_a_task_stops_the_answer_of_a_model_that_thinks_and_not_its_thoughts(
    server: StandIn, client: aiohttp.ClientSession, gateway: Start, stream: bool, tags: list[str] | None
) -> None:
    server.faults.answer_text = "4\n\nQ: 5?" if tags is None else "<think>One.\n\nTwo.</think>4\n\nQ: 5?"
    for _ in range(2):  # the second time from the log
        process = await asyncio.to_thread(gateway, reasons=True, thoughts=tags)
        _, body = await post(client, process, chat("2 + 2?", stream=stream, stop=["Q:", "\n\n"]))
        events = [line[6:] for line in body.split(b"\n\n") if line and b"[DONE]" not in line]
        choices = [json.loads(event)["choices"] for event in (events if stream else [body])]
        parts = [choice.get("delta") or choice.get("message") or {} for (choice, *_) in choices if choice]
        assert "".join(part.get("content") or "" for part in parts) == "4"
        await asyncio.to_thread(process.stop)
    (asked,) = server.seen
    assert "stop" not in json.loads(asked["raw"])


async def test_silent_connections_to_a_server_are_kept_alive(server: StandIn) -> None:
    connection = await Connections.open(server.url)
    tcp = connection._transport.get_extra_info("socket")
    assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < 60, (
        "firewalls forget sooner than an hour"
    )
    connection.close()
