"""Which requests belong to which sample.

A harness does not say which request it sent for which sample, so they are told by their text: a request is a
sample's when its prompt (a completion's; a chat's last message, or all as `role: text` with empty lines
between) is the sample's input, or its input followed by one of its choices (multiple choice by likelihood).
Of several samples with one text, the k-th gets the k-th such request. A harness that knows better says so in
a sample's `prompts`, or in its metadata: `request_ids`, or `prompt` with the text as it was sent. A request
that fits none stays unassigned: nothing is guessed."""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slurmeval.gateway.log import Record
    from slurmeval.harnesses.base import Sample


@dataclass(slots=True)
class Cost:
    """What a sample's requests took. None: no request said."""

    n_requests: int = 0
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_ms: float | None = None
    reasoning: str | None = None
    """The model's thoughts, which are no part of its answer."""

    def think(self, thoughts: str) -> None:
        self.reasoning = thoughts if self.reasoning is None else f"{self.reasoning}\n\n{thoughts}"

    def add(self, record: Record) -> None:
        self.n_requests += 1
        self.finish_reason = record.finish_reason or self.finish_reason
        self.prompt_tokens = _sum(self.prompt_tokens, record.prompt_tokens)
        self.completion_tokens = _sum(self.completion_tokens, record.completion_tokens)
        self.latency_ms = _sum(self.latency_ms, record.server_ms)


class Join:
    """Assigns requests to samples, one pass over each; holds 16 bytes of every prompt, not its text."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.costs = [Cost() for _ in samples]
        self._by_id: dict[str, int] = {}
        self._waiting: dict[bytes, deque[int]] = defaultdict(deque)
        for position, sample in enumerate(samples):
            ids = sample.metadata.get("request_ids")
            if ids:
                self._by_id.update((str(request_id), position) for request_id in ids)
            else:
                for key in {_digest(prompt) for prompt in prompts_of_sample(sample)}:
                    self._waiting[key].append(position)

    def assign(self, record: Record) -> int | None:
        """The position of the sample that an answered request was for, and counts it there."""
        if not record.answered:
            return None
        position = self._by_id.get(record.request_id)
        if position is None:
            position = self._take(prompts_of(record))
        if position is not None:
            self.costs[position].add(record)
        return position

    def _take(self, prompts: Iterable[str]) -> int | None:
        for prompt in prompts:
            waiting = self._waiting.get(_digest(prompt))
            if waiting:
                return waiting.popleft()
        return None


def prompts_of(record: Record) -> list[str]:
    """The text by which a request is known, the most specific first. Of a prompt sent as token numbers it is
    in the answer, where the server was told to echo it (how likelihoods are asked for)."""
    request = record.request
    if not isinstance(request, Mapping):
        return []
    messages, prompt = request.get("messages"), request.get("prompt")
    if isinstance(messages, list) and messages:
        texts = [(message, _text_of_message(message)) for message in messages if isinstance(message, Mapping)]
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
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.strip().encode(errors="surrogatepass"), digest_size=16).digest()


def _sum(total: Any, more: Any) -> Any:
    return more if total is None else total if more is None else total + more
