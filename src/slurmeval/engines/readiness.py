"""Whether a server answers, and answers sense.

A server can be healthy and wrong, so readiness asks for one real completion.
"""

from __future__ import annotations

import http.client
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

TokenLogprobs = Callable[[Mapping[str, Any]], Sequence[float]]
"""Finds the log-probabilities in a choice: an engine's `token_logprobs`."""
PROMPT = "The capital of France is"
PROBE_TIMEOUT_S = 5.0
COMPLETION_TIMEOUT_S = 50.0
"""The first completion may compile kernels. Shorter than processes.STALE_S: no heartbeat meanwhile."""


class NotReady(Exception):
    """The server does not answer yet; the text says what was seen last."""


class Nonsense(NotReady):
    """The server answers, but wrongly: waiting will hardly mend it."""


def request(
    url: str, path: str, api_key: str, body: dict[str, Any] | None = None, timeout_s: float = PROBE_TIMEOUT_S
) -> tuple[int, bytes]:
    """One HTTP request, straight to the server whatever proxies the environment names.

    Raises NotReady where there is no answer.
    """
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout_s)
    try:
        headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        connection.request("GET" if body is None else "POST", path, data, headers)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise NotReady(f"{path}: {error or type(error).__name__}") from error
    finally:
        connection.close()


def check_health(url: str, path: str, api_key: str) -> None:
    """Raises NotReady unless `path` answers 200."""
    read_text(url, path, api_key)


def check_answers(url: str, api_key: str, served_name: str, token_logprobs: TokenLogprobs) -> None:
    """Checks that the server serves the name, and completes a prompt with text and finite log probabilities.

    Raises NotReady, or Nonsense.
    """
    status, data = request(url, "/v1/models", api_key)
    if status != 200:
        raise NotReady(f"/v1/models answers {status}")
    names = _names(data)
    if served_name not in names:
        raise Nonsense(f"the server serves {', '.join(names) or 'no model'}, not {served_name}")
    body = {"model": served_name, "prompt": PROMPT, "max_tokens": 4, "temperature": 0, "logprobs": 1}
    body["ignore_eos"] = True
    status, data = request(url, "/v1/completions", api_key, body, COMPLETION_TIMEOUT_S)
    if status != 200:
        raise Nonsense(f"the server cannot complete a prompt: it answers {status}, {_excerpt(data)}")
    check_completion(data, token_logprobs)


def check_completion(data: bytes, token_logprobs: TokenLogprobs) -> None:
    """Raises Nonsense unless a completion has text and finite log probabilities."""
    try:
        choice = json.loads(data)["choices"][0]
        text, logprobs = choice["text"], token_logprobs(choice)
    except (ValueError, LookupError, TypeError) as error:
        raise Nonsense(f"the server's completion is malformed: {_excerpt(data)}") from error
    if not text:
        raise Nonsense("the server completes a prompt with nothing")
    if not logprobs or not all(isinstance(p, int | float) and math.isfinite(p) for p in logprobs):
        raise Nonsense("the server's log probabilities are not finite numbers: try another dtype")


def read_text(url: str, path: str, api_key: str) -> str:
    """Returns what `path` answers. Raises NotReady unless its status is 200."""
    status, data = request(url, path, api_key)
    if status != 200:
        raise NotReady(f"{path} answers {status}")
    return data.decode(errors="replace")


def _names(data: bytes) -> list[str]:
    try:
        return [entry["id"] for entry in json.loads(data)["data"]]
    except (ValueError, LookupError, TypeError) as error:
        raise Nonsense(f"/v1/models answers what is no list of models: {_excerpt(data)}") from error


def _excerpt(data: bytes) -> str:
    return " ".join(data[:200].decode(errors="replace").split()) or "nothing"
