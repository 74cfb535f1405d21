"""What the body of an answer holds, and whether it is whole: something that a model answered."""

from __future__ import annotations

import json
from typing import Any

import orjson

PARTS = {"/v1/chat/completions": "choices", "/v1/completions": "choices", "/v1/embeddings": "data"}
"""Where an answer has what the model gave, by the path that was asked."""

_SHOWN = 80
"""Characters of a broken answer that its reason shows."""
_SAID = 300
"""Of a refusal's message."""


class NoJSON(ValueError):
    """A body that is no JSON."""


def value_of(body: bytes) -> Any:
    """A body's JSON value, NaN and lone surrogates too, which servers in Python write. Raises NoJSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NoJSON(str(error)) from error


def stream_events(body: bytes) -> list[bytes]:
    """The data of a server-sent event stream's events."""
    return [line[5:].strip() for line in body.splitlines() if line.startswith(b"data:")]


def is_stream(content_type: str | None) -> bool:
    """Whether an answer came as a stream of events."""
    return (content_type or "").startswith("text/event-stream")


def no_json(body: bytes) -> str:
    """Why a body that is no JSON is no answer."""
    return f"the server answered something that is no JSON: {_beginning(body)!r}"


def said(body: bytes) -> str:
    """What a refusal says: the message of an OpenAI error, or how it begins."""
    try:
        error = value_of(body)["error"]
        message = error["message"] if isinstance(error, dict) else error
    except (NoJSON, KeyError, TypeError):
        message = _beginning(body)
    return " ".join(str(message).split())[:_SAID]


def _beginning(body: bytes) -> str:
    return " ".join(body[: 4 * _SHOWN].decode(errors="replace").split())[:_SHOWN]


def lacking(path: str, value: Any) -> str | None:
    """What an answer of status 200 to `path` lacks, in one sentence; None: nothing that is known of."""
    name = PARTS.get(path.partition("?")[0])
    if name is None:
        return None
    if not isinstance(value, dict):
        return f"the server answered with no JSON object: {_shown(value)}"
    parts = value.get(name)
    if not isinstance(parts, list) or not parts:
        return f"the server answered without {name}: {_shown(value)}"
    kind = "embedding" if name == "data" else "message" if "/chat/" in path else "text"
    if not all(isinstance(part, dict) and part.get(kind) is not None for part in parts):
        return f"the server answered with {name} without {kind}: {_shown(value)}"
    return None


def lacking_likelihoods(asked: bytes, value: Any) -> str | None:
    """Why an answer has no log-probabilities of the prompt, which its request `asked` for; None: it has.

    Some servers give those of what they generate alone, without a word: every choice would score the
    same.
    """
    if b'"echo"' not in asked:
        return None
    try:
        request = value_of(asked)
    except NoJSON:
        return None
    if not isinstance(request, dict) or not request.get("echo") or request.get("logprobs") is None:
        return None
    least = _tokens_at_least(request)
    for choice in value["choices"]:
        logprobs = choice.get("logprobs")
        given = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
        if not isinstance(given, list) or len(given) < least:
            return f"the server answered without log-probabilities of the prompt: {_shown(logprobs)}"
    return None


def _tokens_at_least(request: dict[str, Any]) -> int:
    """How many tokens a prompt and its answer have, as far as the request tells."""
    prompt, limit = request.get("prompt"), request.get("max_tokens")
    prompts = prompt if isinstance(prompt, list) and prompt and isinstance(prompt[0], list) else [prompt]
    lengths = [len(one) for one in prompts if isinstance(one, list) and one and isinstance(one[0], int)]
    return min(lengths) if lengths else limit + 1 if limit in (0, 1) else 1


def broken(path: str, content_type: str | None, body: bytes) -> str | None:
    """Why a stored answer of status 200 is none, in one sentence; None: it is whole."""
    if path.partition("?")[0] not in PARTS:
        return None
    if is_stream(content_type):
        return broken_stream(path, stream_events(body))
    try:
        return lacking(path, value_of(body))
    except NoJSON:
        return no_json(body)


def broken_stream(path: str, events: list[bytes]) -> str | None:
    """Why the events of a stream are no answer: one is no JSON, or none has what the model gave."""
    name = PARTS.get(path.partition("?")[0])
    if name is None:
        return None
    found = False
    for data in events:
        if data and data != b"[DONE]":
            try:
                value = value_of(data)
            except NoJSON:
                return no_json(data)
            found = found or (isinstance(value, dict) and bool(value.get(name)))
    return None if found else f"the server's stream has no {name}"


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, default=str)[:_SHOWN]
