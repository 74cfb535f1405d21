"""`server.py MODEL HOST PORT [FLAG …]`: answers as OpenAI's API does, by an engine's own paths and names."""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL, HOST, PORT = sys.argv[1:4]


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass

    def _send(self, text: str) -> None:
        right = self.headers.get("Authorization") == f"Bearer {os.environ['ANOTHER_KEY']}"
        self.send_response(200 if right else 401)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self) -> None:
        paths = {
            "/alive": "",
            "/figures": "another_tokens 7\nanother_running 0\n",
            "/v1/models": json.dumps({"data": [{"id": MODEL}]}),
        }
        self._send(paths[self.path])

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._send(
            json.dumps({"choices": [{"text": " Paris", "logprobs": {"content": [{"logprob": -0.5}]}}]})
        )


if "unknown" in sys.argv:
    sys.exit(f"E: no such model: {MODEL}")
ThreadingHTTPServer((HOST, int(PORT)), Handler).serve_forever()
