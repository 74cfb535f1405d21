"""A stand-in for vLLM as a process: its command line, its API, its ways to die. Standard library only.

It takes VLLM_API_KEY and every flag of `vllm_flags.yaml`, and refuses others as vLLM does. The environment
variable STAND_IN_ORDERS names a JSON file: a list with the orders for each engine run (the last holds for all
further ones), each an object with any of the keys of ORDERS. `<orders>.engine_runs` gets one line of JSON per
engine run: its process, its worker's, its port and its key.

With `--nnodes` it does as vLLM does: rank 0 answers once all other ranks have come, and all end when one has
ended. The other ranks are started by `serve <model> --headless`; `<orders>.ranks` gets a line for each."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FLAGS = Path(__file__).parents[2] / "src" / "slurmeval" / "engines" / "vllm_flags.yaml"

ORDERS: dict[str, Any] = {
    "start_s": 0.0,  # before it listens
    "log": None,  # a file to print at once
    "exit": None,  # the status to exit with at once
    "name": None,  # the model's name, if not the one asked for
    "text": " Paris",  # of every completion
    "logprob": -0.5,  # of every token; "NaN" is possible
    "health": 200,  # the status of /health; may change while it runs
    "running": 0,  # requests under way; may change while it runs
    "tokens": 0,  # generated so far; may change while it runs
    "deaf": False,  # it does not end on SIGTERM
    "stranger": False,  # someone else takes its port meanwhile, and answers like it, whatever the key
}


def orders(engine_run: int) -> dict[str, Any]:
    path = os.environ.get("STAND_IN_ORDERS")
    given = json.loads(Path(path).read_text()) if path else [{}]
    return {**ORDERS, **given[min(engine_run, len(given) - 1)]}


class Handler(BaseHTTPRequestHandler):
    engine_run: int
    served_name: str

    def log_message(self, *_arguments: Any) -> None:
        pass

    def _send(self, status: int, content: Any) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def _is_refused(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {os.environ['VLLM_API_KEY']}":
            return False
        self._send(401, {"error": "Unauthorized"})
        return True

    def do_GET(self) -> None:
        now = orders(self.engine_run)
        if self.path == "/health":
            self._send(now["health"], "")
        elif self.path == "/metrics":
            label = f'{{engine="0",model_name="{self.served_name}"}}'
            lines = [
                "# TYPE vllm:generation_tokens_total counter",
                f"vllm:generation_tokens_total{label} {now['tokens']}.0",
                f"vllm:prompt_tokens_total{label} {now['tokens'] * 2}.0",
                f"vllm:num_requests_running{label} {now['running']}.0",
                f"vllm:num_requests_waiting{label} 0.0",
            ]
            self._send(200, "\n".join(lines) + "\n")
        elif self.path == "/v1/models" and not self._is_refused():
            self._send(200, {"object": "list", "data": [{"id": now["name"] or self.served_name}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        now = orders(self.engine_run)
        if not self._is_refused():
            value = float("nan") if now["logprob"] == "NaN" else now["logprob"]
            choice = {"index": 0, "text": now["text"], "logprobs": {"token_logprobs": [value]}}
            self._send(200, {"object": "text_completion", "choices": [choice]})


class Stranger(Handler):
    def _is_refused(self) -> bool:
        return False


def be_a_stranger(arguments: argparse.Namespace) -> int:
    """Starts a process of someone else on the port; returns its number once it listens."""
    told, tell = os.pipe()
    if pid := os.fork():
        os.read(told, 1)
        return pid
    os.setsid()
    Stranger.engine_run, Stranger.served_name = 0, arguments.served_model_name
    server = ThreadingHTTPServer((arguments.host, int(arguments.port)), Stranger)
    os.write(tell, b"!")
    threading.Timer(60, os._exit, [0]).start()
    server.serve_forever()
    return 0


def parse() -> argparse.Namespace:
    headless = sys.argv[1:2] == ["serve"]
    parser = argparse.ArgumentParser(prog="api_server.py", allow_abbrev=False)
    if headless:
        parser.add_argument("serve")
        parser.add_argument("model")
    for name in ("served-model-name", "dtype", *(() if headless else ("model", "host", "port"))):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--max-model-len", type=int)
    for name in ("enforce-eager", "headless"):
        parser.add_argument(f"--{name}", action="store_true")
    for name in ("tensor-parallel-size", "pipeline-parallel-size", "nnodes", "node-rank", "master-port"):
        parser.add_argument(f"--{name}", type=int, default=0 if name == "node-rank" else 1)
    for name in ("master-addr", "distributed-executor-backend"):
        parser.add_argument(f"--{name}")
    arguments, others = parser.parse_known_args()
    if unknown := [word for word in others if word.startswith("--") and not is_known(word)]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return arguments


def is_known(word: str) -> bool:
    """Whether a flag is a word of the list of vLLM's flags; the standard library reads no YAML."""
    name = word.removeprefix("--").partition("=")[0].partition(".")[0]
    words = re.findall(r"[\w-]+", FLAGS.read_text())
    return name in words or name.removeprefix("no-") in words


def end_with(connection: socket.socket) -> None:
    """Ends this process when the rank at the other end has ended."""
    with contextlib.suppress(OSError):
        connection.recv(1)
    os._exit(1)


def run_headless(arguments: argparse.Namespace) -> None:
    with Path(os.environ["STAND_IN_ORDERS"] + ".ranks").open("a") as stream:
        stream.write(json.dumps({"pid": os.getpid(), "argv": sys.argv[1:]}) + "\n")
    while True:
        with contextlib.suppress(OSError):
            end_with(socket.create_connection((arguments.master_addr, arguments.master_port)))
        time.sleep(0.05)


def wait_for_ranks(arguments: argparse.Namespace) -> None:
    if arguments.nnodes == 1:
        return
    listener = socket.create_server((arguments.master_addr, arguments.master_port))
    for _ in range(1, arguments.nnodes):
        threading.Thread(target=end_with, args=(listener.accept()[0],), daemon=True).start()


def main() -> None:
    arguments = parse()
    if arguments.headless:
        run_headless(arguments)
    record = Path(os.environ["STAND_IN_ORDERS"] + ".engine_runs")
    engine_run = len(record.read_text().splitlines()) if record.exists() else 0
    now = orders(engine_run)
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    entry = {"pid": os.getpid(), "worker": worker.pid, "port": int(arguments.port), "argv": sys.argv[1:]}
    if now["stranger"]:
        entry["stranger"] = be_a_stranger(arguments)
    with record.open("a") as stream:
        stream.write(json.dumps({**entry, "key": os.environ["VLLM_API_KEY"]}) + "\n")
    if now["log"] is not None:
        print(Path(now["log"]).read_text(), flush=True)
    if now["exit"] is not None:
        os._exit(now["exit"])
    time.sleep(now["start_s"])
    Handler.engine_run, Handler.served_name = engine_run, arguments.served_model_name
    wait_for_ranks(arguments)
    server = ThreadingHTTPServer((arguments.host, int(arguments.port)), Handler)

    def end(*_arguments: Any) -> None:
        if not orders(engine_run)["deaf"]:
            worker.kill()
            threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, end)
    server.serve_forever()


if __name__ == "__main__":
    main()
