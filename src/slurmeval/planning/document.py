"""Makes the document of a run, which its jobs read, from the plan of its config."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

from slurmeval.config.patching import PatchingSettings
from slurmeval.files import sha256_of_json
from slurmeval.planning.parallelism import by_default, shared_seats
from slurmeval.planning.shared_jobs import job_of, shared_jobs
from slurmeval.servers.spec import server_spec
from slurmeval.slurm.commands import job_name
from slurmeval.state.run_document import BenchmarkEntry, ModelEntry, RunDocument, SharedJobEntry

if TYPE_CHECKING:
    from slurmeval.planning.plan import Plan
    from slurmeval.state.server_spec import ServerSpec


def document_of(plan: Plan) -> RunDocument:
    """Returns all that jobs need.

    The same config and the same earlier runs give the same document, on every machine that sees the same
    folders.
    """
    job_names, shared = _job_names(plan), _shared_jobs(plan)
    return RunDocument(
        project=plan.project,
        paths=plan.absolute,
        config=plan.config.model_dump(mode="json"),
        site=None if plan.site is None else plan.site.model_dump(mode="json"),
        evaluations=plan.evaluations,
        order=plan.order,
        tokenizer_model=plan.tokenizer_model,
        tokenizers=plan.tokenizer_users,
        models={name: _model(plan, name, job_names[name], shared.get(name)) for name in plan.models},
        datasets={name: plan.project / plan.staged_dataset(name) for name in plan.datasets},
        benchmarks={name: _benchmark(plan, name) for name in plan.benchmarks},
    )


def _model(plan: Plan, name: str, job_names: list[str], shared_job: SharedJobEntry | None) -> ModelEntry:
    runtime, engine = plan.server_runtime(name), plan.engine(plan.config.models[name])
    return ModelEntry(
        answers_key=plan.answers_key(name),
        params=json.loads(plan.model_params[name]),
        manifest=plan.project / plan.staged_model(name),
        runtime="none" if runtime is None else runtime.kind,
        environment=None if runtime is None else plan.project / runtime.record,
        serving=_serving(plan, name),
        replicas=plan.replicas(name),
        parallelism=by_default(plan.config, name, engine),
        seats=shared_seats(plan.config, name, engine),
        job_names=job_names,
        shared_job=shared_job,
    )


def _benchmark(plan: Plan, name: str) -> BenchmarkEntry:
    runtime = plan.harness_runtime(name)
    return BenchmarkEntry(
        runtime=runtime.kind,
        environment=plan.project / runtime.record,
        environment_sha256=runtime.sha256,
        rehearsal=plan.project / plan.rehearsal(name),
        rehearsal_key=f"{name}-{plan.rehearsal_key(name)[:12]}",
        versions=json.loads(plan.benchmark_params[name])["versions"],
        results_key=sha256_of_json(plan.benchmark_params[name]),
        requests_key=sha256_of_json(plan.request_params(name)),
        time_limit_min=plan.forecast.time_limit_min(name),
        judge=plan.config.benchmarks[name].judge,
        asks_nobody=plan.config.benchmarks[name].asks_nobody,
        own_gpus=plan.config.benchmarks[name].own_gpus,
        own_memory_gb=(plan.config.benchmarks[name].patching or PatchingSettings()).memory_gb,
        judges=plan.config.benchmarks[name].judging is not None,
    )


def _serving(plan: Plan, model: str) -> ServerSpec:
    entry = plan.config.models[model]
    return server_spec(
        model,
        entry,
        plan.config.servers[entry.server],
        paths=plan.absolute,
        weights_folder=Path(),
        manifest=plan.project / plan.staged_model(model),
        python=Path(),
        max_at_once=plan.config.server_jobs.max_at_once,
        project=plan.project,
        site=plan.site,
    )


def _job_names(plan: Plan) -> dict[str, list[str]]:
    """Returns the names of the jobs of each model's replicas.

    Where only so many servers may run at once, that many names are shared: Slurm runs jobs of one name one
    after another (`--dependency=singleton`).
    """
    limit, results = plan.config.server_jobs.max_at_once, plan.absolute.results
    slots = (job_name(results, f"slot-{number}") for number in itertools.cycle(range(1, (limit or 1) + 1)))
    return {
        model: [
            next(slots) if limit else job_name(results, f"serve-{model}") for _ in range(plan.replicas(model))
        ]
        for model in plan.order
    }


def _shared_jobs(plan: Plan) -> dict[str, SharedJobEntry]:
    """Returns the job that a model's server shares, by model. Only those that share one."""
    if plan.site is None:
        return {}
    servers = {name: plan.config.servers[plan.config.models[name].server] for name in plan.order}
    return {
        name: SharedJobEntry(models=shared, job=job_of(plan.site, [servers[member] for member in shared]))
        for shared in shared_jobs(plan.site, servers)
        for name in shared
    }
