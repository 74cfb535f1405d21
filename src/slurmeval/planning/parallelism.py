"""How many requests an evaluation has under way where its benchmark does not say.

A step of an engine on a GPU takes hardly longer with more sequences in it, so what costs is an empty seat
(docs/speed.md has figures). A server on CPUs gains little by many, and a laptop runs harnesses beside it."""

from __future__ import annotations

from slurmeval.config.flags import canonical
from slurmeval.config.models import Config, Model

SEATS = 256
"""Sequences that vLLM has in a step where `max-num-seqs` does not say."""
ON_CPUS = 8
OVER = 4
"""The shares of all evaluations are so many times the seats: they end at different times, and the engine is
full until a quarter of them is left. More would keep requests waiting, which counts for their time-out."""
LEAST, MOST = 8, 1024
"""Of one evaluation."""


def of_each(seats: int, evaluations: int) -> int:
    """Requests that each of so many evaluations has under way."""
    share = -(-OVER * seats // max(1, evaluations))
    return min(MOST, max(LEAST, min(seats, share)))


def seats(config: Config, model: Model) -> int:
    """Sequences that all of a model's servers have in their steps at once."""
    server = config.servers[model.server]
    flags = {canonical(name): value for name, value in [*server.flags.items(), *model.flags.items()]}
    engines = _number(flags.get("data-parallel-size"), 1) * server.replicas
    return _number(flags.get("max-num-seqs"), SEATS) * engines


def by_default(config: Config, model: str, evaluations: int) -> int:
    """Requests under way of each of a model's evaluations, of which so many run at once."""
    entry = config.models[model]
    return of_each(seats(config, entry), evaluations) if config.servers[entry.server].gpus else ON_CPUS


def _number(value: object, otherwise: int) -> int:
    """A flag's number, which YAML may have as text; vLLM refuses what is none."""
    return int(text) if (text := str(value)).isdecimal() and int(text) > 0 else otherwise
