"""What evaluations and servers will take, going by earlier runs of the project.

What is not known stays unknown: nothing here makes up a duration. Time limits, which must be some figure,
have rules of their own.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from slurmeval.planning.history import History, Past
from slurmeval.planning.parallelism import ON_CPUS

if TYPE_CHECKING:
    from slurmeval.config.models import Benchmark, Config
    from slurmeval.paths import Paths

TIMES_LONGEST = 3
"""A time limit from history: so many times the longest."""
TIMES_EXCEEDED = 2
"""… and so many times what was not enough."""
LEAST_MIN = 30.0
"""The shortest time limit from history."""
FIXED_MIN = 60.0
"""A time limit from size: this for the harness itself, and each round of requests at its own time-out."""
MOST_FROM_SIZE_MIN = 1440.0
UNKNOWN_SIZE_MIN = 240.0
"""The time limit of a benchmark without `limit` that has never run."""
STEP_MIN = 10
"""Limits are rounded up to whole steps, so that the same history says the same although it is never quite
the same."""


@dataclass(frozen=True)
class TimeEstimate:
    """A duration. `seconds` is None where nothing is known."""

    seconds: float | None
    source: Literal["history", "other model", "unknown"]


@dataclass(frozen=True)
class Uptime:
    """How long a model's server is expected to be up. Not all of it may be known."""

    seconds: float
    """Of what is known: start-up, and the time in which evaluations run."""
    unknown: int
    """Evaluations of which nothing is known."""
    starting: bool
    """Whether the start-up is known."""
    other_model: int
    """Evaluations that go by how long another model took."""

    @property
    def known(self) -> bool:
        """Whether each part of it is known."""
        return self.starting and not self.unknown


class Forecast:
    """What it will take: `benchmarks` are those whose history counts. Reads history when first asked."""

    def __init__(self, config: Config, benchmarks: Sequence[str], paths: Paths) -> None:
        self._config = config
        self._history = History(paths, benchmarks, config.server_of)
        self._usable_of: dict[str, dict[str, tuple[float, float]]] = {}

    def expected_s(self, model: str, benchmark: str) -> TimeEstimate:
        """One evaluation, from the server's answering to its end."""
        others = self._usable(benchmark)
        if model in others:
            return TimeEstimate(others[model][1] - others[model][0], "history")
        if others:
            seconds = statistics.median(ended - began for began, ended in others.values())
            return TimeEstimate(seconds, "other model")
        return TimeEstimate(None, "unknown")

    def starting_s(self, model: str) -> TimeEstimate:
        """A server's start, up to the first answer."""
        seconds = self._history.starting_s(model)
        return TimeEstimate(seconds, "unknown" if seconds is None else "history")

    def uptime(self, server: str, evaluations: Iterable[tuple[str, str]]) -> Uptime:
        """A model's server that runs these evaluations: of the model itself, or of those that it judges.

        They share it, as they did before: what counts is the time during which at least one of them
        ran, on its own model, else on another one.
        """
        starting = self.starting_s(server).seconds
        left = {pair: self._usable(pair[1]) for pair in evaluations}
        own = [left.pop(pair)[pair[0]] for pair in list(left) if pair[0] in left[pair]]
        seconds, other = _covered(own), 0
        while donors := sorted({donor for times in left.values() for donor in times}):
            donor = max(donors, key=lambda name: sum(name in times for times in left.values()))
            lent = [left.pop(pair)[donor] for pair in list(left) if donor in left[pair]]
            seconds, other = seconds + _covered(lent), other + len(lent)
        return Uptime((starting or 0) + seconds, len(left), starting is not None, other)

    def gpus(self, model: str) -> int:
        """GPUs of all servers of this model at once."""
        server = self._config.servers[self._config.models[model].server]
        return server.gpus * server.nodes * server.replicas

    def order(self, models: Iterable[str]) -> list[str]:
        """The order that frees GPUs soonest: those first that will hold them least.

        Models of which not all is known come last, in the order given.
        """
        evaluations = self._config.by_server(self._config.evaluations)

        def held(model: str) -> tuple[bool, float]:
            uptime = self.uptime(model, evaluations.get(model, ()))
            known = uptime.known
            return (not known, uptime.seconds * max(1, self.gpus(model)) if known else 0)

        return sorted(models, key=held)

    def time_limit_min(self, benchmark: str) -> float:
        """The longest that one try of this benchmark may take.

        As the config says; else three times the longest that it took on any model, and twice what was
        not enough; else from its size.
        """
        entry = self._config.benchmarks[benchmark]
        if entry.time_limit_min is not None:
            return entry.time_limit_min
        past = self._history.evaluations.get(benchmark, {}).values()
        scaled = [(each.done, seconds) for each in past if (seconds := _scaled_s(each, entry)) is not None]
        if not scaled:
            return _limit_from_size(entry)
        needed = (seconds * (TIMES_LONGEST if done else TIMES_EXCEEDED) / 60 for done, seconds in scaled)
        return float(STEP_MIN * math.ceil(max(LEAST_MIN, *needed) / STEP_MIN))

    def _usable(self, benchmark: str) -> dict[str, tuple[float, float]]:
        """By model: from when to when this benchmark, at its size of now, ran or would have run."""
        if benchmark not in self._usable_of:
            entry = self._config.benchmarks[benchmark]
            past = self._history.evaluations.get(benchmark, {})
            self._usable_of[benchmark] = {
                model: (each.began, each.began + seconds)
                for model, each in past.items()
                if each.done and (seconds := _scaled_s(each, entry)) is not None
            }
        return self._usable_of[benchmark]


def _scaled_s(past: Past, entry: Benchmark) -> float | None:
    """How long it would have taken at the size of now.

    None where that cannot be told: only some samples were asked for, and now all are.
    """
    if past.limit == entry.limit:
        return past.seconds * entry.repeats / past.repeats
    if past.limit is not None:
        return None if entry.limit is None else _times(past, entry, entry.limit / past.limit)
    assert entry.limit is not None
    # All were asked for, in how many subtasks is not known: at most all again
    return _times(past, entry, min(1.0, entry.limit * past.repeats / past.samples) if past.samples else 1.0)


def _times(past: Past, entry: Benchmark, factor: float) -> float:
    return past.seconds * factor * entry.repeats / past.repeats


def _limit_from_size(entry: Benchmark) -> float:
    if entry.limit is None:
        return UNKNOWN_SIZE_MIN
    rounds = math.ceil(entry.limit * entry.repeats / (entry.parallelism or ON_CPUS))
    minutes = FIXED_MIN + rounds * entry.request_timeout_s / 60
    return float(STEP_MIN * math.ceil(min(MOST_FROM_SIZE_MIN, minutes) / STEP_MIN))


def _covered(times: Iterable[tuple[float, float]]) -> float:
    """Seconds in at least one of the spans."""
    total, reached = 0.0, -math.inf
    for began, ended in sorted(times):
        total += max(0.0, ended - max(began, reached))
        reached = max(reached, ended)
    return total
