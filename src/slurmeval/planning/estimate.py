"""What a server would take before anything like it has run: by the law, from rehearsals and weights."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slurmeval.config.gpus import CPU_CORE, GpuKind, gpus
from slurmeval.harnesses.context import text_config
from slurmeval.planning import law, parallelism
from slurmeval.planning.gpu_memory import bytes_of_parameter, cache_per_token, stored_bytes
from slurmeval.planning.law import Size, Span, Work
from slurmeval.planning.model_files import ModelFiles, model_files
from slurmeval.slurm.request import CPUS_WITHOUT_GPU
from slurmeval.state.manifest import Manifest, Rehearsed
from slurmeval.state.records import find

if TYPE_CHECKING:
    from slurmeval.config.models import Benchmark, Model
    from slurmeval.planning.plan import Plan

SAMPLES = 2
"""Questions of a rehearsal, of each subtask."""
EXPERTS = (
    ("num_experts_per_tok", "num_local_experts"),
    ("num_experts_per_tok", "num_experts"),
    ("num_experts_per_tok", "n_routed_experts"),
)


@dataclass(frozen=True)
class TimeByLaw:
    """What one server of a model would take."""

    seconds: Span | None
    """Start and answering; None: not known."""
    lacking: str | None = None
    """What would have to be known, in words."""


def rehearsed(plan: Plan, benchmark: str) -> Rehearsed | None:
    """Returns what a benchmark's rehearsal asked; None: it has not been rehearsed."""
    manifest = find(plan.project / plan.rehearsal(benchmark), Manifest)
    return None if manifest is None else manifest.rehearsed


def questions(entry: Benchmark, seen: Rehearsed) -> int | None:
    """Returns how many questions a benchmark asks at its limit, without repeats; None: not known."""
    if entry.limit is None:
        return seen.questions
    limited = entry.limit * max(1, seen.asked // SAMPLES)
    return limited if seen.questions is None else min(limited, seen.questions)


def work_of(entry: Benchmark, seen: Rehearsed, model: Model) -> Work | None:
    """Returns what a benchmark asks of a model; None: not known."""
    count = questions(entry, seen)
    longest = entry.max_tokens or seen.max_tokens or model.generation.max_new_tokens or model.max_model_len
    if count is None or longest is None or not seen.asked:
        return None
    times = count * entry.repeats / seen.asked
    requests = seen.requests * times
    shortest = max(1.0, longest * law.SHORTEST_ANSWER)
    tokens = Span(requests * min(shortest, longest), requests * longest)
    return Work(requests, seen.prompt_tokens * times, tokens)


def size_of(there: ModelFiles, dtype: str) -> Size:
    """Returns a model's size by its files and its config.json."""
    config, stored = text_config(there.folder), stored_bytes(there.files)
    loaded, each = bytes_of_parameter(config, dtype)
    return Size(stored * loaded, stored / each, _active(config), cache_per_token(config) or 0.0)


def _active(config: dict[str, object]) -> float:
    for used, there in EXPERTS:
        some, all_of_them = config.get(used), config.get(there)
        if isinstance(some, int) and isinstance(all_of_them, int) and 0 < some < all_of_them:
            return some / all_of_them
    return 1.0


def estimate(
    plan: Plan, model: str, benchmarks: Iterable[str], *, starting: bool, ask_hub: bool
) -> TimeByLaw:
    """Returns what a server takes for these evaluations; `starting`: its start too.

    `ask_hub`: for the size of weights that are not staged yet.
    """
    config, entry = plan.config, plan.config.models[model]
    server = config.servers[entry.server]
    if server.url is not None:
        return TimeByLaw(None, "a server that is there already does not tell what it is")
    kind, count = _hardware(plan, model)
    if kind is None:
        return TimeByLaw(None, "the kind of GPU: `gpu` in servers of the site file")
    total = Work(0, 0, Span(0, 0))
    names = list(benchmarks)
    for name in names:
        if config.benchmarks[name].judging is not None:
            return TimeByLaw(None, f"the answers that {name} judges: nothing rehearses that")
        seen = rehearsed(plan, name)
        if seen is None:
            return TimeByLaw(None, f"the rehearsal of {name}: `snakemake staged` with the same options")
        work = work_of(config.benchmarks[name], seen, entry)
        if work is None:
            return TimeByLaw(None, f"how much {name} asks (limit and max_tokens of the benchmark say it)")
        total += work
    with model_files(plan, model, ask_hub) as there:
        if there is None or not stored_bytes(there.files):
            return TimeByLaw(None, f"the size of {model}: `snakemake staged` with the same options")
        size = size_of(there, entry.dtype)
    default = parallelism.by_default(config, model, plan.engine(entry))
    slots = sum(config.benchmarks[name].parallelism or default for name in names)
    if server.gpus:
        slots = min(slots, parallelism.seats(config, entry, plan.engine(entry)))
    answering = law.answering_s(size, kind, count, total, max(1, slots / server.replicas))
    answering = answering.times(1 / server.replicas)
    return TimeByLaw(law.starting_s(size) + answering if starting else answering)


def _hardware(plan: Plan, model: str) -> tuple[GpuKind | None, int]:
    """Returns what a model's server computes on, and how many of it."""
    server = plan.config.servers[plan.config.models[model].server]
    if not server.gpus:
        here = len(os.sched_getaffinity(0)) if plan.site is None else CPUS_WITHOUT_GPU
        return gpus()[CPU_CORE], server.cpus or here
    name = None if plan.site is None else plan.site.servers.of(server.pool).gpu
    return (gpus()[name] if name else None), server.gpus * server.nodes
