"""The `threads` and `resources` of the rule `evaluate`, filled from the site file."""

from __future__ import annotations

from typing import Any

from slurmeval.planning.plan import Plan
from slurmeval.scheduling.job_resources import of_site
from slurmeval.slurm.request import evaluation_time_min


def evaluation_resources(plan: Plan) -> dict[str, Any]:
    """Returns the resources; none on one machine. The time limit depends on model and benchmark."""
    site = plan.site
    if site is None:
        return {}

    def runtime(wildcards: Any) -> int:
        server = plan.config.models[plan.config.server_of(wildcards.model, wildcards.benchmark)].server
        loading_s = plan.config.servers[server].ready_within_s
        limit_min = plan.forecast.time_limit_min(wildcards.benchmark)
        return evaluation_time_min(limit_min, loading_s, site.evaluations)

    return {**of_site(site), "runtime": runtime}


def evaluation_threads(plan: Plan) -> int:
    """Returns the cores of an evaluation's job."""
    return 1 if plan.site is None else plan.site.evaluations.cpus
