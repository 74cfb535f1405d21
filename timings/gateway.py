"""How fast the gateway is, beside the bare stub server and (with --nemo-python) NeMo Evaluator's adapter.

    python timings/gateway.py [--requests N] [--rounds N] [--memory-requests N] [--nemo-python PYTHON]

The proxy under test has the first core for itself; the stub that answers at once and the load generator
share the second. Requests are 1.5 kB and all different, answers 1 kB. Each figure is the best of the rounds,
in which the proxies take turns: other programs disturb a run but never speed it up. Prints a table."""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import uvloop

from slurmeval.files import write_json
from slurmeval.gateway.process import start
from slurmeval.gateway.settings import GatewayConfig

PATH = "/v1/chat/completions"
FILLER = "The quick brown fox jumps over the lazy dog. " * 30
STUB_BODY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "stub",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": FILLER[:800]},
            }
        ],
        "usage": {"prompt_tokens": 300, "completion_tokens": 200, "total_tokens": 500},
    }
).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
STUB_ANSWER = HEAD % len(STUB_BODY) + STUB_BODY
STUB_MODELS = HEAD % 24 + b'{"data":[{"id":"stub"}]}'
STUB_REFUSAL = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
NEMO_ADAPTER = """
import sys
from nemo_evaluator.adapters.adapter_config import AdapterConfig
from nemo_evaluator.adapters.server import _run_adapter_server
url, folder, port = sys.argv[1:]
target = {"api_endpoint": {"url": url}}
config = AdapterConfig.get_validated_config({"config": {"output_dir": folder}, "target": target})
_run_adapter_server(url, folder, config, int(port), "stub")
"""


class Messages(asyncio.Protocol):
    """Cuts a byte stream into HTTP messages with a Content-Length."""

    def __init__(self) -> None:
        self.buffer = b""
        self.wanted = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            if self.wanted < 0:
                end = self.buffer.find(b"\r\n\r\n")
                if end < 0:
                    return
                head = self.buffer[:end].lower()
                at = head.find(b"content-length:")
                length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
                self.wanted = end + 4 + length
            if len(self.buffer) < self.wanted:
                return
            message, self.buffer = self.buffer[: self.wanted], self.buffer[self.wanted :]
            self.wanted = -1
            self.message(message)

    def message(self, message: bytes) -> None:
        raise NotImplementedError


class Stub(Messages):
    def message(self, message: bytes) -> None:
        if not message.startswith(b"GET "):
            self.transport.write(STUB_ANSWER)
        elif b"Bearer k\r\n" in message:
            self.transport.write(STUB_MODELS)
        else:
            self.transport.write(STUB_REFUSAL)


class Load(Messages):
    """One connection that asks one request after the other."""

    def __init__(self, shared: Shared) -> None:
        super().__init__()
        self.shared = shared

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.ask()

    def ask(self) -> None:
        request = self.shared.next_request()
        if request is None:
            self.transport.close()
            return
        self.asked_at = time.perf_counter()
        self.transport.write(request)

    def message(self, message: bytes) -> None:
        self.shared.latencies_s.append(time.perf_counter() - self.asked_at)
        if not message.startswith(b"HTTP/1.1 200"):
            self.shared.bad += 1
        self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self.shared.open -= 1
        if self.shared.open == 0:
            self.shared.done.set_result(None)


class Shared:
    """What the connections of one run have in common."""

    serial = 0

    def __init__(self, requests: int, connections: int, head: bytes) -> None:
        self.left = requests
        self.open = connections
        self.head = head
        self.latencies_s: list[float] = []
        self.bad = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def next_request(self) -> bytes | None:
        if self.left == 0:
            return None
        self.left -= 1
        Shared.serial += 1
        body = b'{"model":"stub","messages":[{"role":"user","content":"%d %s"}],"temperature":0}' % (
            Shared.serial,
            FILLER.encode(),
        )
        return b"%s%d\r\n\r\n%s" % (self.head, len(body), body)


@dataclass
class Run:
    requests_per_s: float
    median_ms: float
    bad: int


async def _load(port: int, key: str, requests: int, connections: int) -> Run:
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()
    loop = asyncio.get_running_loop()
    shared = Shared(requests, connections, head)
    began = time.perf_counter()
    for _ in range(connections):
        await loop.create_connection(lambda: Load(shared), "127.0.0.1", port)
    await shared.done
    elapsed_s = time.perf_counter() - began
    answered = len(shared.latencies_s)
    bad = shared.bad + requests - answered
    return Run(answered / elapsed_s, statistics.median(shared.latencies_s) * 1000, bad)


def load(port: int, key: str, requests: int, connections: int) -> Run:
    return uvloop.run(_load(port, key, requests, connections))


def _stub(port: multiprocessing.Value, core: int) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", 0, backlog=4096)
        port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    os.sched_setaffinity(0, {core})
    uvloop.run(serve())


@contextmanager
def stub_server(core: int) -> Iterator[int]:
    port = multiprocessing.Value("i", 0)
    process = multiprocessing.Process(target=_stub, args=(port, core), daemon=True)
    process.start()
    _wait(lambda: port.value != 0)
    yield port.value
    process.terminate()
    process.join()


@dataclass
class Proxy:
    name: str
    port: int
    key: str
    pid: int | None
    most_requests: int


@contextmanager
def gateway(stub_port: int, folder: Path, core: int) -> Iterator[Proxy]:
    server = folder / "servers" / "stub" / "0001"
    write_json(folder / "lease.json", {"server": str(server), "released": False})
    write_json(server / "state.json", {"status": "ready"})
    endpoint = {"url": f"http://127.0.0.1:{stub_port}", "api_key": "k", "model": "stub", "engine_run": 1}
    write_json(server / "endpoint.json", endpoint)
    config = GatewayConfig(
        leases=[folder / "lease.json"],
        log=folder / "log",
        ready_file=folder / "ready.json",
        max_in_flight=256,
        hold_s=60,
        retries=3,
        request_timeout_s=60,
        model="stub",
    )
    with start(config, folder) as process:
        _pin(process.pid, core)
        port = int(process.url.rpartition(":")[2])
        yield Proxy("gateway", port, process.api_key, process.pid, 10**9)


@contextmanager
def nemo_adapter(
    python: str, threads: int | None, stub_port: int, folder: Path, core: int
) -> Iterator[Proxy]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {"ADAPTER_HOST": "127.0.0.1", "NEMO_EVALUATOR_TELEMETRY_LEVEL": "0"}
    if threads is not None:
        env["ADAPTER_SERVER_THREADS"] = str(threads)
    url = f"http://127.0.0.1:{stub_port}{PATH}"
    with (folder / f"nemo-{threads}.log").open("wb") as log:
        process = subprocess.Popen(
            [python, "-c", NEMO_ADAPTER, url, str(folder / f"nemo-{threads}"), str(port)],
            env=env,
            stdout=log,
            stderr=log,
        )
    try:
        _wait(lambda: process.poll() is not None or _listens(port))
        _pin(process.pid, core)
        name = f"NeMo's adapter, {threads or 'default'} threads"
        yield Proxy(name, port, "k", process.pid, 1500)
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def _pin(pid: int, core: int) -> None:
    for thread in psutil.Process(pid).threads():
        os.sched_setaffinity(thread.id, {core})


def _wait(condition: Callable[[], bool], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("a server did not start")
        time.sleep(0.05)


def _cpu_s(pid: int | None) -> float:
    return 0.0 if pid is None else sum(psutil.Process(pid).cpu_times()[:2])


def _rss_mb(pid: int | None) -> float:
    return 0.0 if pid is None else psutil.Process(pid).memory_info().rss / 1e6


@dataclass
class Figures:
    requests_per_s: float = 0.0
    cpu_us: float = 1e9
    median_ms: float = 1e9
    rss_mb: float = 0.0
    bad: int = 0


def measure(proxies: list[Proxy], requests: int, rounds: int) -> dict[str, Figures]:
    """The best of the rounds, in which the proxies take turns."""
    figures = {proxy.name: Figures() for proxy in proxies}
    for _ in range(rounds):
        for proxy in proxies:
            found = figures[proxy.name]
            count = min(requests, proxy.most_requests)
            cpu_s = _cpu_s(proxy.pid)
            many = load(proxy.port, proxy.key, count, 64)
            found.cpu_us = min(found.cpu_us, (_cpu_s(proxy.pid) - cpu_s) / count * 1e6)
            one = load(proxy.port, proxy.key, min(count // 4, 2000), 1)
            found.requests_per_s = max(found.requests_per_s, many.requests_per_s)
            found.median_ms = min(found.median_ms, one.median_ms)
            found.rss_mb = max(found.rss_mb, _rss_mb(proxy.pid))
            found.bad += many.bad + one.bad
    return figures


def print_table(figures: dict[str, Figures]) -> None:
    direct = figures["direct"]
    print("| | 64 in flight: req/s | CPU µs each | 1 in flight: added median ms | RSS MB | failed |")
    print("|---|---|---|---|---|---|")
    for name, found in figures.items():
        added = "–" if found is direct else f"{found.median_ms - direct.median_ms:.2f}"
        cpu = "–" if found is direct else f"{found.cpu_us:.0f}"
        rss = "–" if found is direct else f"{found.rss_mb:.0f}"
        print(f"| {name} | {found.requests_per_s:,.0f} | {cpu} | {added} | {rss} | {found.bad} |")


def print_memory(proxy: Proxy, requests: int) -> None:
    """RSS over many requests, in ten steps."""
    steps = []
    for _ in range(10):
        load(proxy.port, proxy.key, requests // 10, 64)
        steps.append(f"{_rss_mb(proxy.pid):.1f}")
    print(f"\nRSS of the gateway in MB, after each {requests // 10:,} further requests: {', '.join(steps)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-requests", type=int, default=100_000)
    parser.add_argument("--nemo-python", help="Python of an environment with nemo-evaluator")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        stub_port = stack.enter_context(stub_server(cores[-1]))
        proxies = [Proxy("direct", stub_port, "k", None, 10**9)]
        proxies.append(stack.enter_context(gateway(stub_port, folder, cores[0])))
        if arguments.nemo_python is not None:
            for threads in (None, 64):
                adapter = nemo_adapter(arguments.nemo_python, threads, stub_port, folder, cores[0])
                proxies.append(stack.enter_context(adapter))
        os.sched_setaffinity(0, {cores[-1]})
        print_table(measure(proxies, arguments.requests, arguments.rounds))
        if arguments.memory_requests:
            print_memory(proxies[1], arguments.memory_requests)


if __name__ == "__main__":
    main()
