"""What a model thought before it answered, as its server's answers have it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from slurmeval.gateway.thoughts import split

_NOW, _BEFORE = "reasoning", "reasoning_content"
"""Where vLLM's parsers put thoughts: now, and in versions before."""
Choice = tuple[str, str, str | None]
"""Thoughts, text and finish reason."""
MARKS = ("<think>", "</think>")
"""What thoughts look like in the text of a model of which nothing is said."""
_MARK = "think>"


def tags_of(served: Mapping[str, Any]) -> Sequence[str] | None:
    """The tags by which the gateway told thoughts from answers, from a model's parameters."""
    return (served.get("reasoning") or {}).get("tags")


def thoughts_of(choices: Sequence[Choice], tags: Sequence[str] | None) -> tuple[str | None, bool]:
    """The thoughts in the choices of an answer; None: there are none.

    The second value is whether the text that the harness got holds the marks of thoughts all the same.
    """
    found, marked = [thoughts for thoughts, _, _ in choices if thoughts], False
    for _, answer, reason in choices:
        if tags is not None:
            thoughts, answer = split(answer, tags, reason)
            found += [] if thoughts is None else [thoughts]
        marked = marked or (_MARK in answer and any(mark in answer for mark in MARKS))
    return ("\n\n".join(found) if found else None), marked


def choices_of(response: Any) -> list[Choice]:
    """Each choice that is generated text; of a stream, put together."""
    events = response if isinstance(response, list) else [response]
    gathered: dict[Any, Choice] = {}
    for event in events:
        choices = event.get("choices") if isinstance(event, dict) else None
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict) or choice.get("logprobs") is not None:
                continue
            place = choice.get("message") or choice.get("delta") or choice
            if not isinstance(place, dict):
                continue
            index = choice.get("index")
            thoughts, text, reason = gathered.get(index, ("", "", None))
            gathered[index] = (
                thoughts + str(place.get(_NOW) or place.get(_BEFORE) or ""),
                text + str(place.get("content") or place.get("text") or ""),
                choice.get("finish_reason") or reason,
            )
    return list(gathered.values())


def warning(evaluation: Mapping[str, Any]) -> str | None:
    """What is said of an evaluation whose answers were scored with their thoughts; None: they were not."""
    if not evaluation["n_think_tags"]:
        return None
    model, count = evaluation["model"], evaluation["n_think_tags"]
    parameters = json.loads(evaluation.get("parameters_json") or "{}")
    asked = parameters.get("judging", {}).get("judge", model)
    answers = "1 answer holds" if count == 1 else f"{count} answers hold"
    return (
        f"{model} on {evaluation['benchmark']}: {answers} <think> or </think>, scored as they are: "
        f"say in models.{asked}.reasoning how thoughts end"
    )
