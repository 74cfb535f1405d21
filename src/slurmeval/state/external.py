"""A server that slurmeval did not start: where it is, and what its model's requests may cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit


def is_here(url: str) -> bool:
    """Whether an address is this machine's own: a server here, or a port that is forwarded."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


@dataclass(frozen=True)
class Spent:
    """What a model's requests have cost, in all runs of these results."""

    requests: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0

    def plus(self, requests: int = 0, prompt_tokens: int = 0, generated_tokens: int = 0) -> Spent:
        """Returns the sum."""
        return Spent(
            self.requests + requests,
            self.prompt_tokens + prompt_tokens,
            self.generated_tokens + generated_tokens,
        )


@dataclass(frozen=True)
class SpendingLimit:
    """What a model's requests may cost. None: any number."""

    requests: int | None = None
    tokens: int | None = None
    """Of prompts and answers, as the server counts them."""

    def exceeded(self, spent: Spent) -> str | None:
        """Returns which limit is reached, in words, or None."""
        if self.requests is not None and spent.requests >= self.requests:
            return f"the budget of {self.requests:,} requests is spent"
        tokens = spent.prompt_tokens + spent.generated_tokens
        if self.tokens is not None and tokens >= self.tokens:
            return f"the budget of {self.tokens:,} tokens is spent ({tokens:,} were used)"
        return None


@dataclass(frozen=True, kw_only=True)
class ExternalServer:
    """An OpenAI-compatible server, as the process that passes requests on to it needs to know it."""

    url: str
    """Its address up to and with the version, such as `https://api.example.org/v1`."""
    model: str
    """The name that it knows the model by."""
    key_file: str | None = None
    """The file with its key; None: it asks for none."""
    max_in_flight: int
    """Requests under way at it at once."""
    budget: SpendingLimit = SpendingLimit()
    spent_file: str
    """Where `Spent` is kept."""
    generation: dict[str, str | int | float | bool] = field(default_factory=dict)
    """Parameters of requests that do not set them."""
    parameters: dict[str, str | None] = field(default_factory=dict)
    """Its own names for parameters of requests; None: they are left out."""
