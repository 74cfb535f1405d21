"""Which requests belong to which sample.

A harness does not say which request it sent for which sample, so they are told by their text: a request is a
sample's when its prompt (a completion's; a chat's last message, or all as `role: text` with empty lines
between) is the sample's input, or its input followed by one of its choices (multiple choice by likelihood).
Of several samples with one text, the k-th gets the k-th such request. A harness that knows better says so in
a sample's `prompts`, or in its metadata: `request_ids`, or `prompt` with the text as it was sent. A request
that fits none stays unassigned: nothing is guessed.
"""

from __future__ import annotations

import io
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from slurmeval.results import columns
from slurmeval.results.sample_costs import Costs
from slurmeval.results.sample_names import NAME_BYTES

if TYPE_CHECKING:
    from slurmeval.gateway.log import Record
    from slurmeval.harnesses.base import Sample, Samples

_AT_ONCE = 32
"""Samples that are held at once while they are gone through: each may be of some megabytes."""


class _Prompts:
    """The samples that wait for a request with a prompt, 16 bytes for each: no text, and no Python object."""

    def __init__(self) -> None:
        self._keys, self._positions = array("q"), array("i")

    def add(self, prompts: Iterable[str], position: int) -> None:
        for key in {_key(prompt) for prompt in prompts}:
            self._keys.append(key)
            self._positions.append(position)

    def close(self) -> None:
        """Sorts them; those of one prompt keep their order."""
        keys, positions = np.frombuffer(self._keys, np.int64), np.frombuffer(self._positions, np.int32)
        order = np.argsort(keys, kind="stable")
        self._keys, self._positions = (
            array("q", keys[order].tobytes()),
            array("i", positions[order].tobytes()),
        )
        self._taken = array("i", [0]) * len(self._keys)

    def take(self, prompt: str) -> int | None:
        """The next sample that waits for it."""
        key = _key(prompt)
        first = bisect_left(self._keys, key)
        if first == len(self._keys) or self._keys[first] != key:
            return None
        place = first + self._taken[first]
        if place == len(self._keys) or self._keys[place] != key:
            return None
        self._taken[first] += 1
        return self._positions[place]


class Join:
    """Assigns requests to samples.

    The samples are gone through once, when the first request comes; no text of theirs is kept. `name`
    gives the next ones their names; `thoughts` is a file for what the model thought.
    """

    def __init__(
        self,
        samples: Samples,
        name: Callable[[Sequence[Sample]], bytes] = lambda samples: b"",
        thoughts: BinaryIO | None = None,
    ) -> None:
        self._samples, self._name = samples, name
        self._waiting: _Prompts | None = None
        self._by_id: dict[str, int] = {}
        self._names = bytearray()
        self._repeats = array("i")
        self.costs = Costs(len(samples), thoughts or io.BytesIO())

    def assign(self, record: Record) -> int | None:
        """The position of the sample that an answered request was for, and counts it there."""
        if not record.answered:
            return None
        waiting = self._waiting or self._gather()
        position = self._by_id.get(record.request_id)
        if position is None:
            taken = (waiting.take(prompt) for prompt in prompts_of(record))
            position = next((place for place in taken if place is not None), None)
        if position is not None:
            self.costs.add(position, record)
        return position

    def named(self, position: int) -> tuple[str, int]:
        """The name of the sample that a request was assigned to, and which answer to the question it is."""
        return self._names_of(position, position + 1).hex(), self._repeats[position]

    def names(self, start: int, samples: Sequence[Sample]) -> bytes:
        """Returns the names of the samples from `start` on, which are made but once."""
        return self._names_of(start, start + len(samples)) if self._names else self._name(samples)

    def _names_of(self, start: int, stop: int) -> bytes:
        return bytes(self._names[NAME_BYTES * start : NAME_BYTES * stop])

    def _gather(self) -> _Prompts:
        self._waiting = waiting = _Prompts()
        for group in columns.groups(self._samples, rows=_AT_ONCE):
            self._names += self._name(group)
            for position, sample in enumerate(group, len(self._repeats)):
                self._repeats.append(sample.repeat_idx)
                ids = sample.metadata.get("request_ids")
                if ids:
                    self._by_id.update((str(request_id), position) for request_id in ids)
                else:
                    waiting.add(prompts_of_sample(sample), position)
        del self._name  # remembers each name, and every sample has its own now
        waiting.close()
        return waiting


def prompts_of(record: Record) -> list[str]:
    """The text by which a request is known, the most specific first.

    Of a prompt sent as token numbers it is in the answer, where the server was told to echo it (how
    likelihoods are asked for).
    """
    request = record.request
    if not isinstance(request, dict):
        return []
    messages, prompt = request.get("messages"), request.get("prompt")
    if isinstance(messages, list) and messages:
        texts = [(message, _text_of_message(message)) for message in messages if isinstance(message, dict)]
        conversation = "\n\n".join(f"{message.get('role')}: {text}" for message, text in texts)
        return [conversation, *(text for _, text in texts[-1:])]
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if isinstance(prompt, list) and request.get("echo"):
        prompt = _echoed(record.response)
    return [prompt] if isinstance(prompt, str) else []


def _echoed(response: Any) -> str | None:
    """The prompt in an answer that begins with it: the text without the tokens that were generated."""
    try:
        (choice,) = response["choices"]
        text, tokens = choice["text"], choice["logprobs"]["tokens"]
        generated = "".join(tokens[response["usage"]["prompt_tokens"] :])
    except (KeyError, TypeError, ValueError):
        return None
    return str(text).removesuffix(generated)


def prompts_of_sample(sample: Sample) -> Iterator[str]:
    """The texts by which a sample's requests are known."""
    if sample.prompts:
        yield from sample.prompts
        return
    sent = sample.metadata.get("prompt")
    text = sent if isinstance(sent, str) else sample.input
    yield text
    for choice in sample.choices or ():
        yield f"{text} {choice}"
        yield f"{text}{choice}"


def _text_of_message(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _key(prompt: str) -> int:
    """64 bits that stand for a prompt within this process: Python's own hash, keyed anew in each."""
    return hash(prompt.strip())
