"""A gate's policy: how much a model's scores may drop, as a file says it.

The keys are those of NeMo Evaluator's `nel gate`, so that its policy files can be used as they are;
`candidate` and `baselines` are slurmeval's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from slurmeval.config.sources import Identifier, Section

POLICY_VERSION = 1
Tier = Literal["critical", "supporting", "advisory"]
_DROP = Annotated[float, Field(ge=0)]
_SHARE = Annotated[float, Field(ge=0, le=1)]


class GateLimits(Section):
    """What is asked of a benchmark. What an entry leaves out, `defaults` says."""

    tier: Tier | None = None
    """`critical` and `supporting` decide; `advisory` is shown only. By default `supporting`."""
    max_drop: _DROP | None = None
    """Largest drop that is tolerated, as a score (0.01 is one point of 100). By default 0.015."""
    max_relative_drop: _SHARE | None = None
    """Largest drop that is tolerated, as a share of the baseline's score; null: any."""
    relative_guard_below: _SHARE | None = None
    """Where the baseline's score is not below this, `max_relative_drop` does not count."""
    metric: str | None = None
    """The metric; null, `mean_reward` and `pass@1` (if it is not there): the benchmark's primary one."""
    direction: Literal["higher_is_better", "lower_is_better"] | None = None
    """Which way is better, where the results do not say."""


class GatePolicy(Section):
    """How much the candidate's scores may drop below the baselines'."""

    version: Literal[1] = 1
    """The file's format; this is version 1."""
    candidate: Identifier | None = None
    """The model that is judged."""
    baselines: list[Identifier] = Field(default_factory=list)
    """The models that it is held against."""
    defaults: GateLimits = GateLimits()
    """What holds for every benchmark, also for those not named below."""
    benchmarks: dict[str, GateLimits] = Field(default_factory=dict)
    """What holds for single benchmarks. Each of them has to be there."""

    def limits(self, benchmark: str) -> GateLimits:
        """Returns all that is asked of a benchmark."""
        built_in = GateLimits(tier="supporting", max_drop=0.015)
        layers = (built_in, self.defaults, self.benchmarks.get(benchmark, GateLimits()))
        told = [layer.model_dump(exclude_none=True) for layer in layers]
        return GateLimits(**{name: value for layer in told for name, value in layer.items()})


def contradictions(policy: GatePolicy) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields keys that cannot be meant, and why."""
    guarded = [name for name in policy.benchmarks if policy.limits(name).max_relative_drop is not None]
    for place, limits, counts in [
        (("defaults",), policy.defaults, policy.defaults.max_relative_drop is not None or guarded),
        *((("benchmarks", name), limits, name in guarded) for name, limits in policy.benchmarks.items()),
    ]:
        if limits.relative_guard_below is not None and not counts:
            yield (*place, "relative_guard_below"), "says nothing without max_relative_drop"
    if policy.candidate is not None and policy.candidate in policy.baselines:
        yield ("baselines",), f"has the candidate, '{policy.candidate}', itself"
