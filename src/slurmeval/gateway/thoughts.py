"""A reasoning model's thoughts, kept from the harness where vLLM does not split them off itself.

The log holds what the server answered; what the harness gets has the answer alone as its text, and the
thoughts as `reasoning`, as vLLM's own parsers write it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

_EVENT_END = b"\n\n"
_DONE = b"[DONE]"


def split(text: str, tags: Sequence[str], finish_reason: str | None) -> tuple[str | None, str]:
    """The thoughts (None: there are none) and the answer: what follows the last closing tag.

    Without one an answer that begins with the opening tag, or was cut off at its limit, is all thought: a
    chat template may have opened it in the prompt."""
    opening, closing = tags
    thoughts, found, answer = text.rpartition(closing)
    if found:
        return thoughts.strip().removeprefix(opening).strip(), answer.lstrip("\n")
    begun = text.lstrip().startswith(opening)
    if begun or (finish_reason == "length" and text):
        return text.strip().removeprefix(opening).strip(), ""
    return None, text


class Thoughts:
    """Takes the thoughts out of answers."""

    def __init__(self, tags: Sequence[str]) -> None:
        """`tags`: the one that opens thoughts and the one that closes them."""
        self.tags = tags

    def without(self, content_type: str, body: bytes) -> bytes:
        """A whole answer. What is no generated text is left as it is."""
        if content_type.startswith("text/event-stream"):
            stream = self.stream()
            return stream.feed(body) + stream.end()
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            return body
        changed = [self._changed(choice) for choice in _choices(value)]
        return orjson.dumps(value) if any(changed) else body

    def _changed(self, choice: dict[str, Any]) -> bool:
        """Whether a choice had thoughts, which then stand apart."""
        place, key = _place_of_text(choice, "message")
        text = place.get(key)
        if not isinstance(text, str):
            return False
        thoughts, answer = split(text, self.tags, choice.get("finish_reason"))
        if thoughts is None:
            return False
        place |= {key: answer, "reasoning": thoughts}
        return True

    def stream(self) -> ThoughtStream:
        """Of one streamed answer."""
        return ThoughtStream(self.tags)


class ThoughtStream:
    """Takes the thoughts out of a stream of events. Text is held back until its choice has ended: only then
    it is known what was thought."""

    def __init__(self, tags: Sequence[str]) -> None:
        self._tags = tags
        self._rest = b""
        self._held: dict[int, list[str]] = {}

    def feed(self, data: bytes) -> bytes:
        """What may be sent on, now that `data` has come."""
        *events, self._rest = (self._rest + data.replace(b"\r\n", b"\n")).split(_EVENT_END)
        return b"".join(self._event(event) + _EVENT_END for event in events)

    def end(self) -> bytes:
        """What is left when the stream has ended."""
        rest, self._rest = self._rest, b""
        return self._event(rest) if rest.strip() else b""

    def _event(self, event: bytes) -> bytes:
        payload = event.strip().removeprefix(b"data:").strip()
        if payload == _DONE or not event.lstrip().startswith(b"data:"):
            return event
        try:
            value = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return event
        for choice in _choices(value):
            self._hold(choice)
        return b"data: " + orjson.dumps(value)

    def _hold(self, choice: dict[str, Any]) -> None:
        place, key = _place_of_text(choice, "delta")
        held = self._held.setdefault(choice.get("index") or 0, [])
        if isinstance(text := place.get(key), str):
            held.append(text)
            place[key] = ""
        reason = choice.get("finish_reason")
        if reason is not None:
            thoughts, answer = split("".join(held), self._tags, reason)
            place |= {key: answer} | ({} if thoughts is None else {"reasoning": thoughts})
            held.clear()


def _choices(value: Any) -> list[dict[str, Any]]:
    """The choices of generated text: those with log-probabilities are scored token by token."""
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, list):
        return []
    return [one for one in choices if isinstance(one, dict) and one.get("logprobs") is None]


def _place_of_text(choice: dict[str, Any], chat: str) -> tuple[dict[str, Any], str]:
    """Where the text stands: a chat's `content`, a completion's `text`."""
    inner = choice.get(chat)
    return (inner, "content") if isinstance(inner, dict) else (choice, "text")
