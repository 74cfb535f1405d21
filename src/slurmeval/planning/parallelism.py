"""How many requests an evaluation has under way where its benchmark does not say.

A step of an engine on a GPU takes hardly longer with more sequences in it, so what costs is an empty seat
(docs/speed.md has figures). A server on CPUs gains little by many, and a laptop runs harnesses beside it.
"""

from __future__ import annotations

from slurmeval.config.models import Config, Model
from slurmeval.engines.base import Engine
from slurmeval.engines.flags import canonical

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


def seats(config: Config, model: Model, engine: Engine) -> int:
    """Sequences that all of a model's servers have in their steps at once."""
    server = config.servers[model.server]
    flags = {canonical(name): value for name, value in [*server.flags.items(), *model.flags.items()]}
    copies = _number(flags.get(engine.copies_flag), 1) * server.replicas
    flag, default = engine.max_sequences
    return _number(flags.get(flag), default) * copies


def by_default(config: Config, model: str, evaluations: int, engine: Engine) -> int:
    """Requests under way of each of a model's evaluations, of which so many run at once."""
    entry = config.models[model]
    server = config.servers[entry.server]
    if server.url is not None:
        return of_each(server.max_in_flight, evaluations)
    return of_each(seats(config, entry, engine), evaluations) if server.gpus else ON_CPUS


def _number(value: object, otherwise: int) -> int:
    """A flag's number, which YAML may have as text; the engine refuses what is none."""
    return int(text) if (text := str(value)).isdecimal() and int(text) > 0 else otherwise
