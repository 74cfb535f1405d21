"""Which small servers share a job, on clusters that give nodes whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slurmeval.config.serving import Serving
from slurmeval.config.site import Site
from slurmeval.slurm.request import CPUS_WITHOUT_GPU, server_flags, submitit_parameters, time_min
from slurmeval.state.server_spec import JobParameters


def shared_jobs(site: Site, servers: Mapping[str, Serving]) -> list[list[str]]:
    """The models that share jobs, those of one pool each."""
    pools = dict.fromkeys(server.pool for server in servers.values())
    found = ((site.servers.of(pool).gpus_per_job, pool) for pool in pools)
    return [
        members
        for gpus, pool in found
        if gpus is not None
        for members in packed({n: server for n, server in servers.items() if server.pool == pool}, gpus)
    ]


def packed(servers: Mapping[str, Serving], gpus_per_job: int) -> list[list[str]]:
    """The models that share jobs of so many GPUs.

    Each goes to the first job that has room, in their order. A model whose server fills a job, or is more
    than one server, is in none; nor is one that is left alone.
    """
    bins: list[tuple[list[str], int]] = []
    for name, server in servers.items():
        if server.nodes > 1 or server.replicas > 1 or not 0 < server.gpus < gpus_per_job:
            continue
        for number, (members, gpus) in enumerate(bins):
            if gpus + server.gpus <= gpus_per_job:
                bins[number] = ([*members, name], gpus + server.gpus)
                break
        else:
            bins.append(([name], server.gpus))
    return [members for members, _ in bins if len(members) > 1]


def job_of(site: Site, servers: Sequence[Serving]) -> JobParameters:
    """What is asked for servers that share a job, as parameters of submitit's executor.

    It is the GPUs of a node, the memory and cores of all, the time of the longest.
    """
    jobs = site.servers.of(servers[0].pool)
    gpus = jobs.gpus_per_job
    assert gpus is not None
    cpus = [server.cpus or server.gpus * jobs.cpus_per_gpu or CPUS_WITHOUT_GPU for server in servers]
    flags = server_flags(
        jobs,
        gpus=gpus,
        nodes=1,
        cpus=sum(cpus),
        memory_gb=sum(server.memory_gb for server in servers),
        time_min=time_min(max(server.time_limit_min for server in servers), jobs),
    )
    return submitit_parameters(flags, jobs.setup)
