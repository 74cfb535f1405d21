"""Stand-in model that always says the same, for rehearsals.

It serves as much of an OpenAI-compatible API as harnesses use, in threads of this process: on a port of
127.0.0.1 and, for containers without network, on a socket.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SAYS = "The answer is (A)."
TOKEN = " A"
VECTOR = [0.5] * 8
LETTERS_PER_TOKEN = 4
"""Of English text, as tokenizers of today cut it."""


@dataclass
class RehearsalModel:
    """Stand-in model that is being served."""

    url: str
    """Without `/v1`."""
    port: int
    api_key: str = field(repr=False)
    answered: int = 0
    """Requests so far."""
    prompts: int = 0
    """Texts that were to be answered."""
    prompt_tokens: int = 0
    """Of all of them; of text a quarter of its letters."""
    max_tokens: int | None = 0
    """The longest answer that was allowed; None: one without a limit."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def note(self, asked: dict[str, Any]) -> None:
        """Counts a request."""
        prompts = _prompts(asked)
        limit = asked.get("max_completion_tokens", asked.get("max_tokens", 16 if "prompt" in asked else None))
        with self._lock:
            self.answered += 1
            self.prompts += len(prompts) * int(asked.get("n") or 1)
            self.prompt_tokens += sum(map(_tokens, prompts))
            if not isinstance(limit, int) or self.max_tokens is None:
                self.max_tokens = None
            else:
                self.max_tokens = max(self.max_tokens, limit)


@contextlib.contextmanager
def serving(name: str, socket: Path | None = None) -> Iterator[RehearsalModel]:
    """Serves the model `name` for as long as the context lasts."""
    key = secrets.token_urlsafe(24)

    class Handler(_Handler):
        pass

    tcp = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port = tcp.server_address[1]
    model = RehearsalModel(f"http://127.0.0.1:{port}", port, key)
    Handler.model, Handler.name = model, name
    servers: list[socketserver.BaseServer] = [tcp]
    if socket is not None:
        servers.append(_SocketServer(str(socket), Handler))
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield model
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


class _SocketServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[Any, Any]:
        connection, _ = super().get_request()
        return connection, ("socket", 0)  # the handler wants an address of two parts


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: RehearsalModel
    name: str

    def do_GET(self) -> None:
        if self.path.rstrip("/").endswith("/models"):
            self._send(
                {"object": "list", "data": [{"id": self.name, "object": "model", "owned_by": "slurmeval"}]}
            )
        else:
            self._send({"status": "ok"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {self.model.api_key}":
            self._send({"error": {"message": "wrong key"}}, 401)
            return
        try:
            asked = json.loads(body)
        except ValueError:
            self._send({"error": {"message": "the body is no JSON"}}, 400)
            return
        self.model.note(asked)
        path = self.path.partition("?")[0].rstrip("/")
        if path.endswith("/chat/completions"):
            answer = chat(asked)
        elif path.endswith("/completions"):
            answer = completions(asked)
        elif path.endswith("/embeddings"):
            answer = embeddings(asked)
        else:
            self._send({"error": {"message": f"{path}: not known here"}}, 404)
            return
        if asked.get("stream"):
            self._stream(answer)
        else:
            self._send(answer)

    def _send(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, answer: dict[str, Any]) -> None:
        """The whole answer as one event."""
        choices = [
            {**choice, "delta": choice["message"]} if "message" in choice else choice
            for choice in answer["choices"]
        ]
        event = {**answer, "object": "chat.completion.chunk", "choices": choices}
        data = f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the harness's log tells what it asked."""


def _prompts(asked: dict[str, Any]) -> list[Any]:
    """Returns the texts of a request, as text or as tokens; of messages their contents together."""
    if "messages" in asked:
        messages = (message.get("content") for message in asked["messages"] if isinstance(message, dict))
        return ["\n".join(text if isinstance(text, str) else json.dumps(text) for text in messages)]
    prompt = asked.get("prompt", asked.get("input", ""))
    tokens = isinstance(prompt, list) and bool(prompt) and isinstance(prompt[0], int)
    return prompt if isinstance(prompt, list) and not tokens else [prompt]


def _tokens(prompt: str | list[int]) -> int:
    return len(prompt) if isinstance(prompt, list) else -(-len(prompt) // LETTERS_PER_TOKEN)


def _answer(kind: str, asked: dict[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any]:
    usage = {"prompt_tokens": 8, "completion_tokens": 6, "total_tokens": 14}
    numbered = [{"index": index, "finish_reason": "stop", **choice} for index, choice in enumerate(choices)]
    return {
        "id": f"rehearsal-{secrets.token_hex(4)}",
        "object": kind,
        "created": 0,
        "model": asked.get("model", ""),
        "choices": numbered,
        "usage": usage,
    }


def chat(asked: dict[str, Any]) -> dict[str, Any]:
    """Returns the answer to messages."""
    message = {"role": "assistant", "content": SAYS}
    choice: dict[str, Any] = {"message": message}
    if asked.get("logprobs"):
        token = {"token": TOKEN, "logprob": -0.5, "bytes": None}
        choice["logprobs"] = {"content": [{**token, "top_logprobs": [token]}]}
    return _answer("chat.completion", asked, [choice] * int(asked.get("n") or 1))


def completions(asked: dict[str, Any]) -> dict[str, Any]:
    """Returns the answer to text or tokens; with `echo` and `logprobs` that of each token of the prompt."""
    choices = [_completion(asked, one) for one in _prompts(asked) for _ in range(int(asked.get("n") or 1))]
    return _answer("text_completion", asked, choices)


def _completion(asked: dict[str, Any], prompt: str | list[int]) -> dict[str, Any]:
    echoed = (prompt.split() if isinstance(prompt, str) else [str(token) for token in prompt]) * bool(
        asked.get("echo")
    )
    said = [TOKEN] if asked.get("max_tokens", 16) else []
    tokens = [*echoed, *said]
    choice: dict[str, Any] = {"text": SAYS if not echoed else " ".join(tokens), "logprobs": None}
    if asked.get("logprobs") is not None:
        values: list[float | None] = [None if echoed and i == 0 else -1.0 - i / 8 for i in range(len(tokens))]
        choice["logprobs"] = {
            "tokens": tokens,
            "token_logprobs": values,
            "top_logprobs": [None if v is None else {t: v} for t, v in zip(tokens, values, strict=True)],
            "text_offset": list(range(len(tokens))),
        }
    return choice


def embeddings(asked: dict[str, Any]) -> dict[str, Any]:
    """Returns the same vector for every text."""
    texts = asked.get("input", "")
    count = len(texts) if isinstance(texts, list) else 1
    data = [{"object": "embedding", "index": index, "embedding": VECTOR} for index in range(count)]
    return {
        "object": "list",
        "data": data,
        "model": asked.get("model", ""),
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
