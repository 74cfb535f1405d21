"""A stand-in for vLLM as a process: its command line, its API, its ways to die. Standard library only.

It takes vLLM's flags and VLLM_API_KEY. The environment variable STAND_IN_ORDERS names a JSON file: a list
with the orders for each life (the last holds for all further lives), each an object with any of the keys of
ORDERS. `<orders>.lives` gets one line of JSON per life: its process, its worker's, its port and its key."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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
}


def orders(life: int) -> dict[str, Any]:
    path = os.environ.get("STAND_IN_ORDERS")
    given = json.loads(Path(path).read_text()) if path else [{}]
    return {**ORDERS, **given[min(life, len(given) - 1)]}


class Handler(BaseHTTPRequestHandler):
    life: int
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
        now = orders(self.life)
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
        now = orders(self.life)
        if not self._is_refused():
            value = float("nan") if now["logprob"] == "NaN" else now["logprob"]
            choice = {"index": 0, "text": now["text"], "logprobs": {"token_logprobs": [value]}}
            self._send(200, {"object": "text_completion", "choices": [choice]})


def main() -> None:
    parser = argparse.ArgumentParser(prog="api_server.py")
    for name in ("model", "host", "served-model-name", "dtype"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--enforce-eager", action="store_true")
    arguments = parser.parse_args()
    record = Path(os.environ["STAND_IN_ORDERS"] + ".lives")
    life = len(record.read_text().splitlines()) if record.exists() else 0
    now = orders(life)
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    entry = {"pid": os.getpid(), "worker": worker.pid, "port": arguments.port, "argv": sys.argv[1:]}
    with record.open("a") as stream:
        stream.write(json.dumps({**entry, "key": os.environ["VLLM_API_KEY"]}) + "\n")
    if now["log"] is not None:
        print(Path(now["log"]).read_text(), flush=True)
    if now["exit"] is not None:
        os._exit(now["exit"])
    time.sleep(now["start_s"])
    Handler.life, Handler.served_name = life, arguments.served_model_name
    server = ThreadingHTTPServer((arguments.host, arguments.port), Handler)

    def end(*_arguments: Any) -> None:
        if not orders(life)["deaf"]:
            worker.kill()
            threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, end)
    server.serve_forever()


if __name__ == "__main__":
    main()
