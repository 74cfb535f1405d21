"""How many requests an evaluation has under way at most where its benchmark does not say.

On GPUs all that fit into its servers, which those that run at the time share (gateway/places.py). A server on
CPUs gains little by many, and a laptop runs harnesses beside it.
"""

from __future__ import annotations

from slurmeval.config.models import Config, Model
from slurmeval.engines.base import Engine
from slurmeval.engines.flags import canonical
from slurmeval.gateway.places import of_each

ON_CPUS = 8


def seats(config: Config, model: Model, engine: Engine) -> int:
    """Sequences that all of a model's servers have in their steps at once."""
    server = config.servers[model.server]
    flags = {canonical(name): value for name, value in [*server.flags.items(), *model.flags.items()]}
    copies = _number(flags.get(engine.copies_flag), 1) * server.replicas
    flag, default = engine.max_sequences
    return _number(flags.get(flag), default) * copies


def shared_seats(config: Config, model: str, engine: Engine) -> int | None:
    """Requests that a model's servers answer at once, for its evaluations to share; None: they share none."""
    entry = config.models[model]
    server = config.servers[entry.server]
    if server.url is not None:
        return server.max_in_flight
    return seats(config, entry, engine) if server.gpus else None


def by_default(config: Config, model: str, engine: Engine) -> int:
    """Requests under way of one of a model's evaluations, at most."""
    shared = shared_seats(config, model, engine)
    return ON_CPUS if shared is None else of_each(shared, 1)


def _number(value: object, otherwise: int) -> int:
    """A flag's number, which YAML may have as text; the engine refuses what is none."""
    return int(text) if (text := str(value)).isdecimal() and int(text) > 0 else otherwise
