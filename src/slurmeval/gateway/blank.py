"""An empty answer to a prompt that the server refused, for harnesses that one refusal ends.

The log says what the server said, so it is counted as unanswered, and replayed to nobody.
"""

from __future__ import annotations

from typing import Any

import orjson

_NO_TEXT = ("echo", "logprobs", "prompt_logprobs", "stream")
"""Requests with these want more than a text."""


def blank_answer(path: str, value: Any) -> bytes | None:
    """The body of an empty answer to a request; None: it asked for no generated text, or for a stream."""
    if not isinstance(value, dict) or any(value.get(name) for name in _NO_TEXT):
        return None
    count, choice = value.get("n") or 1, dict[str, Any]()
    match path.partition("?")[0]:
        case "/v1/chat/completions":
            kind, choice = "chat.completion", {"message": {"role": "assistant", "content": ""}}
        case "/v1/completions":
            prompt = value.get("prompt")
            many = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
            count *= len(prompt) if many and isinstance(prompt, list) else 1
            kind, choice = "text_completion", {"text": ""}
        case _:
            return None
    choices = [{"index": index, "finish_reason": "content_filter", **choice} for index in range(count)]
    usage = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 0)
    answer = {"id": "unanswered", "object": kind, "created": 0, "model": value.get("model")}
    return orjson.dumps(answer | {"choices": choices, "usage": usage})
