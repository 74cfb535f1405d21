"""What a server takes by what its GPUs can do, where nothing has been measured: a law, and no measurement.

An engine makes one token of each sequence in a step. A step reads the weights once, and each sequence's KV
cache; it computes two operations for each weight and token. It takes what the slower of reading and computing
takes, and a fixed time. Prompts are computed, not read. No GPU reaches what its makers state: EFFICIENCY.
(The "roofline" of Pope et al., arXiv 2211.05102, §2.)
"""

from __future__ import annotations

from dataclasses import dataclass

from slurmeval.config.gpus import GpuKind

READ_EFFICIENCY, COMPUTE_EFFICIENCY = 0.6, 0.4
"""Shares of the stated bandwidth and of the stated operations that engines reach."""
STEP_S = 0.006
"""Of each step beside reading and computing: scheduling, sampling, launching kernels."""
START_S = (30.0, 180.0)
"""From the start of an engine to its first answer without loading: imports, compiling, graphs."""
DISK_BYTES_S = (2e9, 0.2e9)
"""How fast weights are read from a shared file system: at most, and at least."""
SHORTEST_ANSWER = 1 / 8
"""Of the longest that is allowed: the low end of the range of answers' lengths."""


@dataclass(frozen=True)
class Span:
    """A range of seconds."""

    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        """Returns one after the other."""
        return Span(self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> Span:
        """Returns so many of them."""
        return Span(self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Size:
    """A model."""

    weight_bytes: float
    parameters: float
    active: float
    """The share of the parameters that computes one token: 1 but for mixtures of experts."""
    cache_bytes: float
    """KV cache of one token."""


@dataclass(frozen=True)
class Work:
    """What a model is asked, all requests together."""

    requests: float
    prompt_tokens: float
    answer_tokens: Span
    """All answers' tokens, at least and at most."""

    def __add__(self, other: Work) -> Work:
        """Returns both together."""
        return Work(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.answer_tokens + other.answer_tokens,
        )


def step_s(size: Size, gpu: GpuKind, gpus: int, sequences: float, context: float) -> float:
    """Returns how long one token of each of so many sequences takes, each with `context` tokens so far."""
    read = size.weight_bytes + sequences * context * size.cache_bytes
    computed = 2 * size.parameters * size.active * sequences
    reading_s = read / (gpu.bandwidth_gb_s * 1e9 * gpus * READ_EFFICIENCY)
    return STEP_S + max(reading_s, computed / (gpu.tflops * 1e12 * gpus * COMPUTE_EFFICIENCY))


def answering_s(size: Size, gpu: GpuKind, gpus: int, work: Work, slots: float) -> Span:
    """Returns how long a server of `gpus` takes, with at most `slots` requests under way."""
    if not work.requests:
        return Span(0.0, 0.0)
    at_once = min(slots, work.requests)
    computed = 2 * size.parameters * size.active * work.prompt_tokens
    prompts_s = computed / (gpu.tflops * 1e12 * gpus * COMPUTE_EFFICIENCY)

    def seconds(tokens: float) -> float:
        context = (work.prompt_tokens + tokens / 2) / work.requests
        return prompts_s + tokens / at_once * step_s(size, gpu, gpus, at_once, context)

    return Span(seconds(work.answer_tokens.low), seconds(work.answer_tokens.high))


def starting_s(size: Size) -> Span:
    """Returns how long a server takes from its start to its first answer."""
    loading = (size.weight_bytes / rate for rate in DISK_BYTES_S)
    return Span(*(start + load for start, load in zip(START_S, loading, strict=True)))
