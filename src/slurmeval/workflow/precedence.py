"""Which evaluations come first: those whose server is up, and among these the longest.

Snakemake picks at random among jobs that are ready. On one machine, where one server is up at a time,
evaluations of others would hold the cores, and it would have no work. On a cluster Slurm decides which server
runs; jobs are submitted in this order.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmeval.planning.estimate import estimate
from slurmeval.servers.slots import served

if TYPE_CHECKING:
    from slurmeval.planning.plan import Plan

Pair = tuple[str, str]

RULES = frozenset({"lease", "lease_judge", "evaluate"})
"""The rules whose jobs have an order."""
MOST = 4.0
"""Added to a job's priority at most: rules keep their order."""
LOOK_S = 1.0
"""Between two looks at which servers are up."""


class Precedence:
    """The order of a plan's evaluations, as far as it is known when it is asked for."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._seconds: dict[Pair, float | None] = {}
        self._places: dict[str, int] = {}  # of models
        self._looked = float("-inf")

    def added_priority(self, job: Any) -> float:
        """What a job of Snakemake's has beside the priority of its rule: up to MOST, more for the first."""
        if job.rule.name not in RULES:
            return 0.0
        pair = job.wildcards.model, job.wildcards.benchmark
        place, seconds = self._place(*pair), self.seconds(*pair)
        shortness = 0.0 if seconds is None else 1 / (1 + seconds / 60)
        return MOST * (1 - (place + shortness) / (len(self._places) + 2))

    def longest_first(self, jobs: Iterable[Any]) -> list[Any]:
        """Returns jobs of Snakemake's that are to be submitted to Slurm, the first one first."""
        return sorted(jobs, key=self.added_priority, reverse=True)

    def seconds(self, model: str, benchmark: str) -> float | None:
        """How long an evaluation takes, by earlier runs or its rehearsal. None: not known; it may be long."""
        pair = model, benchmark
        if pair not in self._seconds:
            self._seconds[pair] = None
            # A file system that is away, or a model's config.json like no other, ends no run
            with contextlib.suppress(OSError, ValueError, TypeError):
                self._seconds[pair] = self._expected_s(model, benchmark)
        return self._seconds[pair]

    def _expected_s(self, model: str, benchmark: str) -> float | None:
        known = self._plan.forecast.expected_s(model, benchmark).seconds
        if known is not None or benchmark not in self._asking:
            return known
        told = estimate(self._plan, model, [benchmark], starting=False, ask_hub=False).seconds
        return None if told is None else told.high

    @cached_property
    def _asking(self) -> frozenset[str]:
        """The benchmarks that ask a server."""
        entries = self._plan.config.benchmarks
        return frozenset(name for name in self._plan.benchmarks if not entries[name].asks_nobody)

    def _place(self, model: str, benchmark: str) -> int:
        """The place of the server that an evaluation asks; the last one for those that ask none."""
        now = time.monotonic()
        if now - self._looked > LOOK_S:
            up: list[Path] = []
            with contextlib.suppress(OSError):
                up = served(self._plan.absolute.slots)  # none on a cluster
            # …/servers/<model>@<replica>/<number>/state.json
            names = [heartbeat.parent.parent.name.partition("@")[0] for heartbeat in up]
            self._places = {name: n for n, name in enumerate(dict.fromkeys([*names, *self._plan.order]))}
            self._looked = now
        last = len(self._places)
        if benchmark not in self._asking:
            return last
        return self._places.get(self._plan.config.server_of(model, benchmark), last)
