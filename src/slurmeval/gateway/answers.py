"""What the gateway reads out of a server's answer: token counts, how it finished, whether it is whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from slurmeval.gateway.bodies import (
    PARTS,
    NoJSON,
    broken_stream,
    lacking,
    lacking_likelihoods,
    no_json,
    stream_events,
    value_of,
)

_BROKEN_OFF = ("abort", "error", "network_error", "insufficient_system_resource")
"""Reasons to finish that are the server's, not the model's: vLLM's, OpenRouter's, Z.AI's, DeepSeek's."""
_FILTERED = ("content_filter", "sensitive")
"""Reasons to finish of filters: OpenAI's, Z.AI's."""


@dataclass(frozen=True, slots=True)
class Facts:
    """`error` says why an answer of status 200 is none."""

    is_json: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None
    error: str | None = None
    model: str | None = None
    """Which model answered, as the server says."""
    cut_off: bool = False
    """The server stopped half-way because it is going away: ask again."""
    broken: bool = False
    """It is nothing that a model answered: ask again."""

    @property
    def withheld(self) -> str | None:
        """Why an answer that the server stands by is not the model's own; None: it is."""
        if self.finish_reason not in _FILTERED:
            return None
        return f"the server's filter withheld the answer (finish_reason {self.finish_reason})"


def facts_of_body(path: str, body: bytes, asked: bytes = b"") -> Facts:
    """Of an answer to `path` that came in one piece; `asked` is the request's body."""
    is_json = True
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        is_json = False
        try:
            value = value_of(body)
        except NoJSON:
            known = path.partition("?")[0] in PARTS
            return Facts(error=no_json(body) if known else None, broken=known)
    lacks = lacking(path, value)
    if lacks is None and path.partition("?")[0] == "/v1/completions":
        lacks = lacking_likelihoods(asked, value)
    if not isinstance(value, dict):
        return Facts(is_json, error=lacks, broken=lacks is not None)
    prompt_tokens, completion_tokens = _usage(value)
    finish_reason = _finish_reason(value)
    error = _error(value) or lacks
    cut_off = finish_reason in _BROKEN_OFF
    if cut_off:
        error = f"the server broke off its answer (finish_reason {finish_reason})"
    return Facts(
        is_json,
        prompt_tokens,
        completion_tokens,
        finish_reason,
        error,
        _model(value),
        cut_off,
        lacks is not None,
    )


def facts_of_stream(path: str, body: bytes) -> Facts:
    """Of a stream that has ended.

    It is whole when its last event is `[DONE]`, none is an error, and a model has answered in it.
    """
    events = stream_events(body)
    prompt_tokens = completion_tokens = None
    finish_reason = error = model = None
    for data in events:
        try:
            value = value_of(data)
        except NoJSON:
            continue
        if isinstance(value, dict):
            usage = _usage(value)
            if usage != (None, None):
                prompt_tokens, completion_tokens = usage
            finish_reason = _finish_reason(value) or finish_reason
            model = model or _model(value)
            error = _error(value) or error
    if finish_reason in _BROKEN_OFF:
        error = f"the server broke off its answer (finish_reason {finish_reason})"
    elif error is None and (not events or events[-1] != b"[DONE]"):
        error = "the stream ended without [DONE]"
    elif error is None:
        error = broken_stream(path, events)
    return Facts(False, prompt_tokens, completion_tokens, finish_reason, error, model, error is not None)


def _usage(value: dict[str, Any]) -> tuple[int | None, int | None]:
    usage = value.get("usage")
    if not isinstance(usage, dict):
        return None, None
    return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))


def _model(value: dict[str, Any]) -> str | None:
    model = value.get("model")
    return model if isinstance(model, str) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _finish_reason(value: dict[str, Any]) -> str | None:
    choices = value.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        reason = choices[0].get("finish_reason")
        return reason if isinstance(reason, str) else None
    return None


def _error(value: dict[str, Any]) -> str | None:
    error = value.get("error")
    if not error:
        return None
    message = error.get("message") if isinstance(error, dict) else error
    return f"the server answered with an error: {message}"
