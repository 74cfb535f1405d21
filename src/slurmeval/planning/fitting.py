"""What a cluster's partitions cannot give: jobs that would wait for ever, or be refused."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slurmeval.config.patching import PatchingSettings

if TYPE_CHECKING:
    from slurmeval.config.models import Benchmark, Config
    from slurmeval.config.serving import Serving
    from slurmeval.config.site import Jobs, Site
    from slurmeval.slurm.parsing import Partition

MOST_NAMES = 4


@dataclass(frozen=True)
class Request:
    """What a job asks of each of its nodes. None: it does not ask."""

    kind: str
    """`server` or `evaluation`."""
    names: tuple[str, ...]
    """The models or benchmarks whose jobs ask for this."""
    flags: tuple[str, ...]
    partition: str | None
    """Several with commas; None: the cluster's default."""
    time_min: int
    nodes: int
    gpus: int
    cpus: int | None
    memory_gb: float | None

    @property
    def title(self) -> str:
        """What is asked for, in words."""
        preposition = "of" if self.kind == "server" else "on"
        noun = self.kind if len(self.names) == 1 else f"{self.kind}s"
        named, more = self.names[:MOST_NAMES], len(self.names) - MOST_NAMES
        return f"{noun} {preposition} {', '.join(named)}{f' and {more} more' if more > 0 else ''}"


def requests(
    site: Site, config: Config, models: Iterable[str], limits_min: Mapping[str, float]
) -> list[Request]:
    """The jobs to be submitted, alike ones once.

    They are a server of each of `models`, and an evaluation on each benchmark of `limits_min` (its time
    limit).
    """
    from slurmeval.slurm.request import evaluation_time_min

    found: dict[Request, list[str]] = {}
    servers_of = {name: config.servers[config.models[name].server] for name in models}
    models = [name for name, server in servers_of.items() if server.url is None]  # others need no job
    for model in models:
        found.setdefault(_server(site, servers_of[model]), []).append(model)
    if site.evaluations.where == "jobs":
        loading_s = max((server.ready_within_s for server in servers_of.values()), default=0.0)
        pools = {config.servers[config.models[name].server].pool: None for name in config.evaluated_models}
        for benchmark, limit in limits_min.items():
            minutes = evaluation_time_min(limit, loading_s, site.evaluations)
            entry = config.benchmarks[benchmark]
            if entry.own_gpus:
                asked = [_on_own_gpus(site, pool, entry, minutes) for pool in pools]
            else:
                asked = [_evaluation(site, minutes)]
            for request in asked:
                found.setdefault(request, []).append(benchmark)
    return [Request(**{**vars(request), "names": tuple(names)}) for request, names in found.items()]


def _server(site: Site, server: Serving) -> Request:
    from slurmeval.slurm.request import CPUS_WITHOUT_GPU, serving_flags, time_min

    jobs = site.servers.of(server.pool)
    cpus = server.cpus or server.gpus * jobs.cpus_per_gpu or CPUS_WITHOUT_GPU
    return Request(
        kind="server",
        names=(),
        flags=tuple(serving_flags(site, server)),
        partition=_partition(jobs),
        time_min=time_min(server.time_limit_min, jobs),
        nodes=server.nodes,
        gpus=server.gpus,
        cpus=None if jobs.cpus is None else cpus,
        memory_gb=None if jobs.memory is None else server.memory_gb,
    )


def _on_own_gpus(site: Site, pool: str | None, entry: Benchmark, minutes: int) -> Request:
    from slurmeval.slurm.request import gpu_evaluation_flags

    jobs, gpus = site.servers.of(pool), entry.own_gpus
    memory_gb = (entry.patching or PatchingSettings()).memory_gb
    return Request(
        kind="evaluation",
        names=(),
        flags=tuple(gpu_evaluation_flags(site, pool, gpus=gpus, time_min=minutes, memory_gb=memory_gb)),
        partition=_partition(jobs),
        time_min=minutes,
        nodes=1,
        gpus=gpus,
        cpus=None if jobs.cpus is None else gpus * jobs.cpus_per_gpu,
        memory_gb=None if jobs.memory is None else memory_gb,
    )


def _evaluation(site: Site, minutes: int) -> Request:
    from slurmeval.slurm.request import evaluation_flags

    jobs = site.evaluations
    return Request(
        kind="evaluation",
        names=(),
        flags=tuple(evaluation_flags(site, time_min=minutes, memory_gb=jobs.memory_gb)),
        partition=_partition(jobs),
        time_min=minutes,
        nodes=1,
        gpus=0,
        cpus=jobs.cpus,
        memory_gb=None if jobs.memory is None else jobs.memory_gb,
    )


def _partition(jobs: Jobs) -> str | None:
    return jobs.partition or os.environ.get("SBATCH_PARTITION")


def unfit(request: Request, partitions: Mapping[str, Partition]) -> str | None:
    """Why no partition that the job may run in can take it, in words; None: one can, or none is known."""
    if request.partition is None:
        names = [name for name, partition in partitions.items() if partition.default]
    else:
        names = request.partition.split(",")
    if not names:
        return "no partition is named, and the cluster has no default one"
    reasons = []
    for name in names:
        if name not in partitions:
            reasons.append(f"there is no partition {name}")
            continue
        lacking = list(_lacking(request, partitions[name]))
        if not lacking:
            return None
        reasons.append(f"partition {name}: {', '.join(lacking)}")
    return "; ".join(reasons)


def _lacking(request: Request, partition: Partition) -> Iterable[str]:
    if partition.state not in ("", "UP"):
        yield f"it is {partition.state}"
    if partition.max_time_min is not None and request.time_min > partition.max_time_min:
        yield f"at most {_minutes(partition.max_time_min)} ({_minutes(request.time_min)} asked for)"
    if not partition.nodes:
        return  # what its nodes have is not known
    wants: list[tuple[float | None, float, str]] = [
        (request.nodes, partition.nodes, "nodes"),
        (request.gpus, partition.gpus_per_node, "GPUs a node"),
        (request.cpus, partition.cpus, "cores a node"),
        (request.memory_gb, partition.memory_mb / 1024, "GB a node"),
    ]
    for wanted, there, unit in wants:
        if wanted is not None and wanted > there:
            yield f"{there:.4g} {unit} ({wanted:.4g} asked for)"


def _minutes(minutes: int) -> str:
    return f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} min"


def crowded_out(site: Site, limits: Mapping[str, int], servers: int, max_at_once: int | None) -> str | None:
    """Why evaluations cannot run beside so many servers; None: they can.

    The limits are those of `slurm.commands.limits_of_jobs`.
    """
    if site.evaluations.where == "server":
        return None
    accounts = {jobs.account for jobs in (site.servers, site.evaluations)}
    ours = {f"qos {jobs.qos or 'normal'}" for jobs in (site.servers, site.evaluations)}
    any_account = (name for name in limits if name.startswith("account "))
    ours.update(any_account if None in accounts else (f"account {account}" for account in accounts))
    there = {name: most for name, most in limits.items() if name in ours}
    if not there:
        return None
    name = min(there, key=there.__getitem__)
    most, at_once = there[name], min(servers, max_at_once or servers)
    if at_once < most:
        return None
    inside = "evaluations.where: server (site file) has evaluations run inside their servers' jobs"
    if most == 1:
        return f"{name} runs one job at once, so no evaluation beside its server: {inside}"
    return (
        f"{name} runs {most} jobs at once, and {at_once} servers would leave no place for evaluations: "
        f"server_jobs.max_at_once: {most - 1} (config) does, or {inside}"
    )
