"""Makes a server's spec from the typed config."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from slurmeval.engines import registry
from slurmeval.engines.flags import canonical
from slurmeval.state.external import ExternalServer, SpendingLimit
from slurmeval.state.server_spec import ServerSpec

if TYPE_CHECKING:
    from slurmeval.config.models import Model
    from slurmeval.config.serving import Serving
    from slurmeval.config.site import Site
    from slurmeval.paths import Paths


def server_spec(
    model_id: str,
    model: Model,
    server: Serving,
    *,
    paths: Paths,
    weights_folder: Path,
    manifest: Path,
    python: Path,
    max_at_once: int | None,
    project: Path,
    site: Site | None = None,
) -> ServerSpec:
    """Returns the spec of a model's server from the typed config.

    It is the first replica's; others differ in `replica`, `servers` and `leases`. The config's files are
    relative to `project`. `site`: None on one machine, where one server runs at once by default.
    """
    spec = ServerSpec(
        model=model_id,
        engine=registry.located(server.engine_name, project),
        served_name=model_id,
        weights=str(weights_folder),
        manifest=str(manifest),
        python=str(python),
        servers=str(paths.servers_of(model_id)),
        leases=str(paths.leases / model_id),
        controller=str(paths.controller),
        slots=str(paths.slots),
        dtype=model.dtype,
        quantization=model.quantization,
        max_model_len=model.max_model_len,
        chat_template=None if model.chat_template is None else str(project / model.chat_template),
        trust_remote_code=model.trust_remote_code,
        # An engine would take max_new_tokens for a ceiling: the gateway sets it where a harness sets no limit
        generation=model.generation.model_dump(exclude_none=True, exclude={"max_new_tokens"}),
        reasoning_parser=None if model.reasoning is None else model.reasoning.parser,
        flags={canonical(name): value for name, value in [*server.flags.items(), *model.flags.items()]},
        env={**_on_cores(server, project, site), **server.env, **model.env},
        cache=None if server.url else str(paths.state / f"{Path(server.engine).stem}-cache" / model_id),
        drain_s=server.drain_s,
        max_at_once=max_at_once or 1,
        time_limit_min=server.time_limit_min,
        ready_timeout_s=server.ready_within_s,
    )
    if server.url is not None:
        return _there_already(spec, model, server, paths, site)
    return spec if site is None else _colocated(_on_cluster(spec, site, server), site, server, paths)


def _on_cores(server: Serving, project: Path, site: Site | None) -> dict[str, str]:
    """What the engine is told of its memory where it has no GPU."""
    if server.gpus or server.url is not None:
        return {}
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    memory_gb = server.memory_gb if site is not None else min(server.memory_gb, here)
    return registry.find_engine(server.engine_name, project).without_gpus(server.flags, memory_gb)


def _there_already(
    spec: ServerSpec, model: Model, server: Serving, paths: Paths, site: Site | None
) -> ServerSpec:
    """Returns the spec of a server that slurmeval did not start.

    What passes requests on to it runs beside Snakemake, on a login node too: it may reach servers that
    compute nodes cannot, and needs next to nothing.
    """
    assert server.url is not None
    external = ExternalServer(
        url=server.url,
        model=model.served_name or spec.model,
        key_file=None if server.api_key is None else str(paths.secrets / server.api_key),
        max_in_flight=server.max_in_flight,
        budget=SpendingLimit(server.budget.requests, server.budget.tokens),
        parameters=model.parameters,
        spent_file=str(paths.state / "spent" / f"{spec.model}.json"),
        generation=spec.generation,
    )
    host = spec.host if site is None else site.servers.address
    return replace(spec, max_at_once=None, host=host, external=external)


def _colocated(spec: ServerSpec, site: Site, server: Serving, paths: Paths) -> ServerSpec:
    """Returns the spec with what evaluations need that run in the server's job."""
    if site.evaluations.where != "server":
        return spec
    host = "127.0.0.1" if server.replicas == server.nodes == 1 else spec.host
    return replace(spec, colocated=str(paths.state / "colocated" / spec.model), host=host)


def _on_cluster(spec: ServerSpec, site: Site, server: Serving) -> ServerSpec:
    """Returns the spec of a server that is a job on a cluster."""
    from slurmeval.slurm.request import serving_flags, submitit_parameters, time_min

    jobs = site.servers.of(server.pool)
    return replace(
        spec,
        max_at_once=None,
        time_limit_min=time_min(server.time_limit_min, jobs),
        host=jobs.address,
        gpus=server.gpus,
        nodes=server.nodes,
        containers=site.containers.model_dump(mode="json"),
        # While it copies, a follower on another node would count as silent
        scratch=site.scratch.folder if server.nodes == 1 else None,
        to_copy=list(site.scratch.to_copy),
        keep_free_gb=site.scratch.keep_free_gb,
        cluster="slurm",
        job=submitit_parameters(serving_flags(site, server), jobs.setup),
    )
