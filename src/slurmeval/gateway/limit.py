"""The longest answer where a harness sets no limit: `generation.max_new_tokens` of the model.

vLLM itself would take it for a ceiling, and cut the answers of a benchmark that asks for longer ones.
"""

from __future__ import annotations

from typing import Any

import orjson

_GENERATES = ("/v1/chat/completions", "/v1/completions")
_KEYS = ("max_tokens", "max_completion_tokens")


def with_limit(path: str, body: Any, max_tokens: int | None) -> bytes | None:
    """The request with a limit; None: it needs none, as one that has its own."""
    if max_tokens is None or path.partition("?")[0] not in _GENERATES or not isinstance(body, dict):
        return None
    if any(body.get(key) is not None for key in _KEYS):
        return None
    return orjson.dumps(body | {"max_tokens": max_tokens})


def with_what_is_left(body: dict[str, Any]) -> bytes:
    """Returns the request with the rest of the context as its limit.

    For a prompt that leaves less than the default: a server refuses a limit beyond its context. (A completion
    without a limit would be 16 tokens long.)
    """
    return orjson.dumps(body | {"max_tokens": None})
