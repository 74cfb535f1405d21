"""What a server serves, and how: the one file (`spec.json`) that its job needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from slurmeval.state.external import ExternalServer

Scalar = str | int | float | bool

DEFAULT_ENGINE = "vllm"


@dataclass(frozen=True, kw_only=True)
class JobParameters:
    """What Slurm is asked for a server's job: parameters of submitit's AutoExecutor, by their names there."""

    timeout_min: int | None = None
    nodes: int = 1
    tasks_per_node: int = 1
    slurm_additional_parameters: dict[str, str | bool] = field(default_factory=dict)
    """Further flags of sbatch, without dashes in front; True: no value."""
    slurm_setup: list[str] = field(default_factory=list)
    """Lines of shell before the server."""


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """What an engine is told of the model and of its share of the machine."""

    served_name: str
    """The name in requests."""
    weights: str
    """The model's folder."""
    python: str
    """Interpreter of the environment (or of the image) that has the engine."""
    dtype: str = "auto"
    quantization: str | None = None
    max_model_len: int | None = None
    chat_template: str | None = None
    """A Jinja file, absolute."""
    trust_remote_code: bool = False
    generation: dict[str, Scalar] = field(default_factory=dict)
    reasoning_parser: str | None = None
    flags: dict[str, Scalar | None] = field(default_factory=dict)
    """Further flags, without dashes in front; None or True: no value; False: the `--no-` form."""
    gpus: int = 0
    """GPUs on each node; 0: the engine finds what there is."""
    nodes: int = 1
    """Nodes of this server."""
    external: ExternalServer | None = None
    """The server that is there already, where slurmeval starts none."""


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
    """The controller's file: its mtime is the run's heartbeat."""
    slots: str
    """Folder of the slots that bound how many servers run at once."""
    engine: str = DEFAULT_ENGINE
    """Name of the engine, or its file, absolute."""
    env: dict[str, str] = field(default_factory=dict)
    ready_timeout_s: float = 1800
    time_limit_min: int = 1440
    drain_s: float = 60
    max_at_once: int | None = 1
    """Servers that run at once. None: the batch system sees to it."""
    host: str = "127.0.0.1"
    """By what others reach the server; {host} stands for the name of the node."""
    replica: int = 1
    """Which of the servers that share the requests for the model."""
    cache: str | None = None
    """Folder of what the engine and its compilers keep; None: their own places, in the home folder."""
    colocated: str | None = None
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
    job: JobParameters = JobParameters()
    """Of a job of Slurm."""

    @property
    def is_on_slurm(self) -> bool:
        """Whether Slurm runs it."""
        return self.cluster == "slurm"
