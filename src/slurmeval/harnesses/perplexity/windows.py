"""A long text in windows, and what their log-probabilities make."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LEAST_LIKELY = 0.2
"""Share of a text's tokens, the least likely ones, that Min-K% looks at (Shi et al., arXiv 2310.16789)."""


@dataclass(frozen=True)
class Window:
    """A part of a text, and the text before it that the model sees too."""

    context: str
    new: str


@dataclass(frozen=True)
class Likelihoods:
    """Log-probabilities of a text's tokens, in nats; None: of the first, before which there is nothing."""

    tokens: list[str]
    values: list[float | None]


def windows(text: str, window: int, stride: int) -> Iterator[Window]:
    """Yields a text's windows: at most `window` characters, of which the last `stride` are new.

    The first has no context, and is new as a whole. Cuts are made before a space between two words, so that
    tokens are those of the whole text; where there is none in half a stride, at that character.
    """
    start, end = 0, 0
    while end < len(text):
        start, end = end, _cut(text, end + (stride if end else window), end)
        context = max(0, start - (window - stride))
        if context:
            context = next(filter(lambda place: _between_words(text, place), range(context, start)), context)
        yield Window(text[context:start].lstrip(" "), text[start:end])


def _cut(text: str, at: int, after: int) -> int:
    """Returns the last place for a cut at or before `at`, which is beyond `after`."""
    if at >= len(text):
        return len(text)
    for place in range(at, max(after + 1, (at + after) // 2), -1):
        if _between_words(text, place):
            return place
    return max(at, after + 1)


def _between_words(text: str, place: int) -> bool:
    """Returns whether a single space stands there."""
    around = text[place - 1 : place] + text[place + 1 : place + 2]
    return text[place] == " " and len(around) == 2 and not any(map(str.isspace, around))


@dataclass(frozen=True)
class TextLikelihood:
    """How likely a text is, without its first token where nothing is before it."""

    nll: float
    """Negative log-likelihood in nats."""
    n_tokens: int
    n_bytes: int
    """UTF-8 bytes that these tokens are."""
    min_k: float | None
    """Mean log-probability of the least likely 20 % of tokens, in nats; None: there are none."""

    @property
    def bits_per_byte(self) -> float:
        """Bits that the text takes per byte of UTF-8."""
        return self.nll / math.log(2) / self.n_bytes


def combined(parts: Sequence[tuple[Window, Likelihoods | None, Likelihoods]]) -> TextLikelihood:
    """Returns how likely a text is, of its windows with the likelihoods of context and of context and new.

    By the chain rule that of the new part is that of both less that of the context.
    """
    nll, n_tokens, n_bytes, values = 0.0, 0, 0, []
    for window, context, both in parts:
        before = [] if context is None else context.values
        nll += _nll(both.values) - _nll(before)
        new = both.values[len(before) :]
        values += [value for value in new if value is not None]
        n_tokens += len(new) - new.count(None)
        n_bytes += len(window.new.encode())
        if context is None:
            n_bytes -= _unseen_bytes(window.new, both)
    return TextLikelihood(nll, n_tokens, n_bytes, _min_k(values))


def _nll(values: Sequence[float | None]) -> float:
    return -math.fsum(value for value in values if value is not None)


def _unseen_bytes(text: str, found: Likelihoods) -> int:
    """Returns the bytes of the first token, of which nothing is known, unless it is one for the beginning."""
    first = found.tokens[0] if found.tokens else ""
    if found.values[:1] != [None] or not text.startswith(first):
        return 0
    return len(first.encode())


def _min_k(values: Sequence[float]) -> float | None:
    if not values:
        return None
    least = sorted(values)[: max(1, int(LEAST_LIKELY * len(values)))]
    return math.fsum(least) / len(least)


@dataclass(frozen=True)
class CorpusLikelihood:
    """How likely a corpus is."""

    token_perplexity: float
    """exp of nats per token; comparable only between models with the same tokenizer."""
    text_perplexity: float
    """exp of the mean over texts of nats per token."""
    bits_per_byte: float
    byte_perplexity: float
    min_k: float
    """Mean over texts."""


def of_corpus(texts: Sequence[TextLikelihood]) -> CorpusLikelihood:
    """Returns perplexities over all texts together, of those that have a token."""
    told = [text for text in texts if text.n_tokens and text.n_bytes]
    if not told:
        raise ValueError("expected a text of two tokens or more")
    nll = math.fsum(text.nll for text in told)
    bits = nll / math.log(2) / sum(text.n_bytes for text in told)
    return CorpusLikelihood(
        math.exp(nll / sum(text.n_tokens for text in told)),
        math.exp(math.fsum(text.nll / text.n_tokens for text in told) / len(told)),
        bits,
        2**bits,
        math.fsum(text.min_k for text in told if text.min_k is not None) / len(told),
    )
