"""A reasoning model's thoughts, kept from the harness where vLLM does not split them off itself.

The log holds what the server answered; what the harness gets has the answer alone as its text, and the
thoughts as `reasoning`, as vLLM's own parsers write it.

Stop words of a task are meant for its answer. vLLM would look for them in the thoughts, too, and end there.
So they are not asked of it (the key STOPS, which it ignores, has them instead), and the answer is cut here,
as lm-eval does where it runs vLLM in process.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import orjson

from slurmeval.gateway.bodies import NoJSON, value_of

STOPS = "stop_after_thoughts"
"""Key of a request's body with the stop words that hold for the answer alone."""

_EVENT_END = b"\n\n"
_DONE = b"[DONE]"


def split(text: str, tags: Sequence[str], finish_reason: str | None) -> tuple[str | None, str]:
    """The thoughts (None: there are none) and the answer: what follows the last closing tag.

    Without one an answer that begins with the opening tag, or was cut off at its limit, is all thought: a
    chat template may have opened it in the prompt.
    """
    opening, closing = tags
    thoughts, found, answer = text.rpartition(closing)
    if found:
        return thoughts.strip().removeprefix(opening).strip(), answer.lstrip("\n")
    begun = text.lstrip().startswith(opening)
    if begun or (finish_reason == "length" and text):
        return text.strip().removeprefix(opening).strip(), ""
    return None, text


def cut(answer: str, stops: Sequence[str]) -> str:
    """Returns the answer up to the first of its stop words."""
    return answer[: min((at for stop in stops if (at := answer.find(stop)) >= 0), default=len(answer))]


def stops_of(body: Any) -> list[str]:
    """Returns the stop words that hold for the answer alone, of a request's body."""
    stops = body.get(STOPS) if isinstance(body, dict) else None
    return [stop for stop in stops if isinstance(stop, str)] if isinstance(stops, list) else []


class Thoughts:
    """Takes the thoughts out of answers."""

    def __init__(self, tags: Sequence[str] | None) -> None:
        """`tags`: the one that opens thoughts and the one that closes them; None: the server splits them."""
        self.tags = tags

    def spare(self, path: str, body: dict[str, Any]) -> bool:
        """Moves a request's stop words to where the server ignores them; returns whether there were any.

        A server that splits thoughts itself does so in chats only.
        """
        if self.tags is None and not path.startswith("/v1/chat/"):
            return False
        stops = [body["stop"]] if isinstance(body.get("stop"), str) else body.get("stop")
        if not isinstance(stops, list) or not any(stops):
            return False
        del body["stop"]
        body[STOPS] = [stop for stop in stops if stop]
        return True

    def without(self, content_type: str, body: bytes, stops: Sequence[str] = ()) -> bytes:
        """A whole answer, up to the first of `stops`. What is no generated text is left as it is."""
        if content_type.startswith("text/event-stream"):
            stream = self.stream(stops)
            return stream.feed(body) + stream.end()
        try:
            value = value_of(body)
        except NoJSON:
            return body
        changed = [self._changed(choice, stops) for choice in _choices(value)]
        return _dumps(value) if any(changed) else body

    def _changed(self, choice: dict[str, Any], stops: Sequence[str]) -> bool:
        """Whether a choice had thoughts, which then stand apart, or goes on after a stop word."""
        place, key = _place_of_text(choice, "message")
        text = place.get(key)
        if not isinstance(text, str):
            return False
        place |= self.told_apart(text, key, choice, stops)
        return bool(place[key] != text)

    def told_apart(self, text: str, key: str, choice: dict[str, Any], stops: Sequence[str]) -> dict[str, Any]:
        """Returns what stands in the place of a choice's text; `choice` ends at its first stop word."""
        thoughts, whole = (
            (None, text) if self.tags is None else split(text, self.tags, choice.get("finish_reason"))
        )
        answer = cut(whole, stops)
        if answer != whole:
            choice["finish_reason"] = "stop"
        return {key: answer} | ({} if thoughts is None else {"reasoning": thoughts})

    def stream(self, stops: Sequence[str] = ()) -> ThoughtStream:
        """Of one streamed answer."""
        return ThoughtStream(self, stops)


class ThoughtStream:
    """Takes the thoughts out of a stream of events.

    Text is held back until its choice has ended: only then it is known what was thought.
    """

    def __init__(self, thoughts: Thoughts, stops: Sequence[str] = ()) -> None:
        self._thoughts = thoughts
        self._stops = stops
        self._holds = thoughts.tags is not None or bool(stops)
        self._rest = b""
        self._held: dict[int, list[str]] = {}

    def feed(self, data: bytes) -> bytes:
        """What may be sent on, now that `data` has come."""
        if not self._holds:
            return data
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
            value = value_of(payload)
        except NoJSON:
            return event
        for choice in _choices(value):
            self._hold(choice)
        return b"data: " + _dumps(value)

    def _hold(self, choice: dict[str, Any]) -> None:
        place, key = _place_of_text(choice, "delta")
        held = self._held.setdefault(choice.get("index") or 0, [])
        if isinstance(text := place.get(key), str):
            held.append(text)
            place[key] = ""
        if choice.get("finish_reason") is not None:
            place |= self._thoughts.told_apart("".join(held), key, choice, self._stops)
            held.clear()


def _dumps(value: Any) -> bytes:
    """JSON; what orjson refuses (lone surrogates) as Python writes it."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()


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
