"""What a server serves, and how: the one file (`spec.json`) that its job needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmeval.engines import registry
from slurmeval.engines.base import EngineSpec
from slurmeval.engines.flags import canonical

if TYPE_CHECKING:
    from slurmeval.config.models import Model, Serving
    from slurmeval.config.site import Site
    from slurmeval.paths import Paths


@dataclass(frozen=True, kw_only=True)
class ServerSpec(EngineSpec):
    """Everything a server's job needs to know. Two servers of a model are alike when these are equal."""

    model: str
    """The model's id."""
    manifest: str
    """The staged model's manifest."""
    servers: str
    """Folder of this model's servers."""
    leases: str
    """Folder of this model's leases."""
    controller: str
    """The controller's file: its mtime is the run's beat."""
    slots: str
    """Folder of the slots that bound how many servers run at once."""
    engine: str = registry.DEFAULT
    """Name of the engine, or its file, absolute."""
    env: dict[str, str] = field(default_factory=dict)
    ready_timeout_s: float = 1800
    time_limit_min: int = 1440
    max_restarts: int = 3
    drain_s: float = 60
    max_at_once: int | None = 1
    """Servers that run at once. None: the batch system sees to it."""
    host: str = "127.0.0.1"
    """By what others reach the server; {host} stands for the name of the node."""
    replica: int = 1
    """Which of the servers that share the requests for the model."""
    cache: str | None = None
    """Folder of what the engine and its compilers keep; None: their own places, in the home folder."""
    inside: str | None = None
    """Folder of requests for evaluations that run in the server's job; None: they are jobs of their own."""
    image: str | None = None
    """The image that has the engine, whose `python` it is then; None: `python` is outside."""
    containers: dict[str, Any] = field(default_factory=dict)
    """How containers are run: `containers` of the site."""
    scratch: str | None = None
    """A folder on the node's own disk, where what is in `to_copy` is copied to first; None: there is none."""
    to_copy: list[str] = field(default_factory=list)
    """weights, images."""
    keep_free_gb: float = 0
    """Nothing is copied where less than this would be left free."""
    cluster: str = "local"
    """submitit's executor: local or slurm."""
    job: dict[str, Any] = field(default_factory=dict)
    """Further parameters of submitit's AutoExecutor, such as `slurm_additional_parameters`."""

    def to_json(self) -> dict[str, Any]:
        """The spec as `spec.json` holds it."""
        value: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ServerSpec:
        """Raises TypeError where keys are missing or unknown."""
        return cls(**value)


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
    """The spec of a model's server from the typed config: the first replica's; others differ in `replica`,
    `servers` and `leases`. `project` is the folder that the config's relative files (chat templates) are
    relative to; `site` is the cluster, None on one machine, where one server runs at once by default."""
    where: dict[str, Any] = {"max_at_once": max_at_once or 1, "time_limit_min": server.time_limit_min}
    if site is not None:
        where = _on_cluster(site, server)
        if site.evaluations.where == "server":
            where["inside"] = str(paths.state / "inside" / model_id)
            if server.replicas == server.nodes == 1:
                where["host"] = "127.0.0.1"
    return ServerSpec(
        model=model_id,
        engine=registry.located(server.engine, project),
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
        env={**server.env, **model.env},
        ready_timeout_s=server.ready_timeout_s,
        cache=str(paths.state / f"{Path(server.engine).stem}-cache" / model_id),
        max_restarts=server.max_restarts,
        drain_s=server.drain_s,
        **where,
    )


def _on_cluster(site: Site, server: Serving) -> dict[str, Any]:
    """What a server's spec says of its job on a cluster."""
    from slurmeval.slurm.request import server_flags, submitit_parameters, time_min

    limit_min = time_min(server.time_limit_min, site.servers)
    flags = server_flags(
        site,
        gpus=server.gpus,
        nodes=server.nodes,
        cpus=server.cpus,
        memory_gb=server.memory_gb,
        time_min=limit_min,
    )
    return {
        "max_at_once": None,
        "time_limit_min": limit_min,
        "host": site.servers.address,
        "gpus": server.gpus,
        "nodes": server.nodes,
        "containers": site.containers.model_dump(mode="json"),
        # While it copies, a follower on another node would count as silent
        "scratch": site.scratch.folder if server.nodes == 1 else None,
        "to_copy": list(site.scratch.to_copy),
        "keep_free_gb": site.scratch.keep_free_gb,
        "cluster": "slurm",
        "job": submitit_parameters(flags, site.servers.setup),
    }
