"""What a model thought before it answered, as its server's answers have it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from slurmeval.gateway.thoughts import split

if TYPE_CHECKING:
    from slurmeval.gateway.log import Record

KEYS = ("reasoning", "reasoning_content")
"""Where vLLM's parsers put thoughts: now, and in versions before."""
_MAY_HOLD = (b"think>", b'"reasoning', b"\\u003c")
MARKS = ("<think>", "</think>")
"""What thoughts look like in the text of a model of which nothing is said."""


def tags_of(served: Mapping[str, Any]) -> Sequence[str] | None:
    """The tags by which the gateway told thoughts from answers, from a model's parameters."""
    return (served.get("reasoning") or {}).get("tags")


def thoughts_of(record: Record, tags: Sequence[str] | None) -> tuple[str | None, bool]:
    """The thoughts in an answer (None: there are none), and whether the text that the harness got holds the
    marks of thoughts all the same."""
    body = record.response_body or b""
    if tags is None and not any(mark in body for mark in _MAY_HOLD):
        return None, False
    apart, texts, marked = list[str](), list[str](), False
    for thoughts, text, reason in choices_of(record.response):
        answer = text
        if tags is not None:
            found, answer = split(text, tags, reason)
            texts += [] if found is None else [found]
        apart += [thoughts] if thoughts else []
        marked = marked or any(mark in answer for mark in MARKS)
    found_all = [*apart, *texts]
    return ("\n\n".join(found_all) if found_all else None), marked


def choices_of(response: Any) -> Iterator[tuple[str, str, str | None]]:
    """Thoughts, text and finish reason of each choice that is generated text; of a stream, put together."""
    events = response if isinstance(response, list) else [response]
    gathered: dict[Any, list[Any]] = {}
    for event in events:
        choices = event.get("choices") if isinstance(event, dict) else None
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict) or choice.get("logprobs") is not None:
                continue
            place = choice.get("message") or choice.get("delta") or choice
            if not isinstance(place, dict):
                continue
            whole = gathered.setdefault(choice.get("index"), ["", "", None])
            whole[0] += next((str(place[key]) for key in KEYS if place.get(key)), "")
            whole[1] += str(place.get("content") or place.get("text") or "")
            whole[2] = choice.get("finish_reason") or whole[2]
    yield from ((thoughts, text, reason) for thoughts, text, reason in gathered.values())


def warning(evaluation: Mapping[str, Any]) -> str | None:
    """What is said of an evaluation whose answers were scored with their thoughts; None: they were not."""
    if not evaluation["n_think_tags"]:
        return None
    model, count = evaluation["model"], evaluation["n_think_tags"]
    answers = "1 answer holds" if count == 1 else f"{count} answers hold"
    return (
        f"{model} on {evaluation['benchmark']}: {answers} <think> or </think>, scored as they are: "
        f"say in models.{model}.reasoning how thoughts end"
    )
