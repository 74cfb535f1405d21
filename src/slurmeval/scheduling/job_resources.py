"""What Snakemake's `resources` and `threads` ask for the jobs of evaluations and servers.

The rule `evaluate` fills them from the site file. --set-resources and --set-threads change them for that
rule. --default-resources give what the site file leaves out, for all jobs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from slurmeval.config.of_run import config_of
from slurmeval.config.site import Site
from slurmeval.errors import UserError
from slurmeval.scheduling.snakemake_compat import ResourceOptions
from slurmeval.slurm.request import (
    MB_PER_GB,
    evaluation_flags,
    evaluation_time_min,
    gpu_evaluation_flags,
)
from slurmeval.state.run_document import RunDocument

FLAGS = {
    "slurm_account": "account",
    "slurm_partition": "partition",
    "slurm_qos": "qos",
    "slurm_reservation": "reservation",
    "constraint": "constraint",
    "qos": "qos",
    "reservation": "reservation",
}
"""Key of the site file by the resource's name, as Snakemake's own Slurm plugin names them."""
SIZES = ("mem_mb", "runtime")
BY_SNAKEMAKE = ("mem", "mem_mib", "disk", "disk_mb", "disk_mib", "tmpdir")
"""Names that Snakemake adds by itself; those of memory are `mem_mb` in other units."""
EVALUATE = "evaluate"


@dataclass(frozen=True)
class EvaluationRequest:
    """What an evaluation's job asks for."""

    site: Site
    """The site file, with what Snakemake was told instead."""
    memory_mb: int
    time_min: int

    @property
    def memory_gb(self) -> float:
        """Memory in GB, as site files have it."""
        return self.memory_mb / MB_PER_GB


def of_site(site: Site | None) -> dict[str, Any]:
    """Returns the resources of the rule `evaluate`, but for its time limit; none on one machine."""
    if site is None:
        return {}
    jobs = site.evaluations
    given = {name: getattr(jobs, FLAGS[name]) for name in ("slurm_account", "slurm_partition")}
    given |= {name: getattr(jobs, name) for name in ("qos", "constraint", "reservation")}
    flags = {name: value for name, value in given.items() if value is not None}
    return {"mem_mb": math.ceil(jobs.memory_gb * MB_PER_GB), **flags}


def request_of(site: Site, resources: Mapping[str, Any], threads: int) -> EvaluationRequest:
    """Returns what a job of `evaluate` asks for."""
    told = {FLAGS[name]: str(value) for name, value in resources.items() if name in FLAGS and value}
    jobs = site.evaluations.model_copy(update={**told, "cpus": threads})
    return EvaluationRequest(
        site.model_copy(update={"evaluations": jobs}), int(resources["mem_mb"]), int(resources["runtime"])
    )


def by_the_site(run: RunDocument, site: Site, model: str, benchmark: str) -> EvaluationRequest:
    """Returns what an evaluation's job asks for, by the site file alone."""
    loading_s = run.models[run.server_of(model, benchmark)].serving.ready_timeout_s
    limit_min = run.benchmarks[benchmark].time_limit_min
    minutes = evaluation_time_min(limit_min, loading_s, site.evaluations)
    return request_of(site, {**of_site(site), "runtime": minutes}, site.evaluations.cpus)


def flags_of(
    run: RunDocument, model: str, benchmark: str, asked: EvaluationRequest, more: int = 1
) -> list[str]:
    """Returns the flags of an evaluation's job, with `more` times the memory that is asked for."""
    entry, site = run.benchmarks[benchmark], asked.site
    if not entry.own_gpus:
        return evaluation_flags(site, time_min=asked.time_min, memory_gb=asked.memory_gb * more)
    config = config_of(run)
    return gpu_evaluation_flags(
        site,
        config.servers[config.models[model].server].pool,
        gpus=entry.own_gpus,
        time_min=asked.time_min,
        memory_gb=entry.own_memory_gb * more,
    )


def site_of_options(site: Site, options: ResourceOptions) -> Site:
    """Returns the site file with --default-resources where it says nothing, for all kinds of jobs.

    Raises UserError for an option that would have no effect on a cluster.
    """
    _check(site, options)
    flags = {FLAGS[name]: value for name, value in options.defaults.items() if name in FLAGS}
    kinds = {}
    for kind in ("servers", "evaluations", "staging"):
        jobs = getattr(site, kind)
        missing = {key: value for key, value in flags.items() if getattr(jobs, key) is None}
        try:
            kinds[kind] = type(jobs).model_validate({**jobs.model_dump(), **missing})
        except ValidationError as error:
            name, text = error.errors()[0]["loc"][0], error.errors()[0]["msg"]
            raise UserError(f"--default-resources: {name}: {text}") from None
    return site.model_copy(update=kinds)


def _check(site: Site, options: ResourceOptions) -> None:
    """Raises UserError for an option that would have no effect on a cluster."""
    for rule in sorted({*options.set_resources, *options.set_threads}):
        option = "--set-resources" if rule in options.set_resources else "--set-threads"
        if rule == EVALUATE and site.evaluations.where == "server":
            raise UserError(f"{option} {rule}: has no effect: evaluations run in servers' jobs (site)")
        if rule != EVALUATE:
            where = (
                "servers.<id> in the config and the site file"
                if rule in ("lease", "lease_judge")
                else "the site file"
            )
            raise UserError(f"{option} {rule}: has no effect; expected the rule {EVALUATE}, or edit {where}")
    named = options.set_resources.get(EVALUATE, ())
    if "mem_mb" in named and site.evaluations.memory is None:
        raise UserError(f"--set-resources {EVALUATE}:mem_mb: has no effect: evaluations.memory is null")
    for option, names in (
        (f"--set-resources {EVALUATE}:", named),
        ("--default-resources ", options.defaults),
    ):
        unknown = sorted({*names} - {*FLAGS, *SIZES, *BY_SNAKEMAKE, *options.limits})
        if unknown:
            known = ", ".join([*SIZES, *FLAGS])
            raise UserError(f"{option}{unknown[0]}: not known; expected one of {known}")
