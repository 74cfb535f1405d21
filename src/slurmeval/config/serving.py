"""The config's sections on servers."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated

from pydantic import AfterValidator, Field

from slurmeval.config.sources import Identifier, Scalar, SecretName, Section
from slurmeval.state.external import is_here

EXTERNAL = "external"
"""The engine of servers that are there already."""
EXTERNAL_READY_S = 120.0
"""Longest wait for a server that is there already, unless the config says otherwise."""


def _without_slash(address: str) -> str:
    return address.rstrip("/")


class Budget(Section):
    """What requests for one model may cost, in all runs of these results together."""

    requests: Annotated[int, Field(ge=1)] | None = None
    """Requests that are sent; null: any number."""
    tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of prompts and answers, as the server counts them; null: any number. Requests under way when
    they are spent are still answered."""


class Serving(Section):
    """How models are served. Nothing here but `url` alters answers: time limits, ports, memory, retries."""

    url: Annotated[str, AfterValidator(_without_slash)] | None = None
    """A server that is there already, by the address of its OpenAI API up to and with the version, such as
    `https://api.example.org/v1`; null: slurmeval starts one. With it go only `api_key`, `max_in_flight`,
    `budget`, `ready_timeout_s`, `time_limit_min` and `drain_s` (docs/external.md)."""
    api_key: SecretName | None = None
    """With `url`: the entry of `secrets` with its key; null: it asks for none."""
    max_in_flight: Annotated[int, Field(ge=1, le=4096)] = 16
    """With `url`: requests of one model under way at it at once."""
    budget: Budget = Budget()
    """With `url`: what requests may cost."""
    engine: Annotated[str, Field(min_length=1)] = "vllm"
    """The inference engine: `vllm`, `sglang` (never run), or a Python file of the project that describes
    another (docs/engines.md)."""
    environment: Identifier | None = None
    """The locked environment with the engine: a file `containers/locks/<environment>.lock`; null: `vllm-cuda`
    where `gpus` are asked for, else `vllm-cpu` (for another engine, its name in place of `vllm`)."""
    image: Identifier | None = None
    """The image with the engine, instead of an environment: an entry of `containers/images.lock.yaml`."""
    flags: dict[str, Scalar | None] = {}
    """Flags of the engine that alter no answer, such as `max-num-seqs: 8`; null: a flag without value. Others
    are refused (`src/slurmeval/engines/vllm_flags.yaml` lists both): they belong to the model."""
    env: dict[str, str] = {}
    """Environment variables of the engine that alter no answer. Not for secrets: they are written to the
    server's folder."""
    pool: Identifier | None = None
    """On a cluster: the kind of node, an entry of `servers.pools` in the site file; null: as its `servers`
    says."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """On a cluster: GPUs on each node of one server. Layers are split over them (tensor parallel) unless
    `flags` say otherwise."""
    nodes: Annotated[int, Field(ge=1)] = 1
    """On a cluster: nodes of one server, for a model that is too large for one (pipeline parallel)."""
    replicas: Annotated[int, Field(ge=1)] = 1
    """Servers that share the requests for one model."""
    cpus: Annotated[int, Field(ge=1)] | None = None
    """On a cluster: cores on each node; null: as the site says for each GPU, or 4 without GPU."""
    memory_gb: Annotated[float, Field(gt=0)] = 32
    """On a cluster: memory of each node. Without GPUs a quarter of it is vLLM's KV cache, unless `flags` or
    `env` say otherwise."""
    ready_timeout_s: Annotated[float, Field(gt=0)] = 1800
    """Longest time from start to the first answer; with `url` 120 where nothing else is said."""
    time_limit_min: Annotated[int, Field(ge=1)] = 1440
    """Longest time of one server job."""
    drain_s: Annotated[float, Field(ge=0)] = 60
    """How long requests under way may take to end when the server is told to stop."""

    @property
    def ready_within_s(self) -> float:
        """Returns how long is waited for its first answer: one that is there already loads no weights."""
        if self.url is not None and "ready_timeout_s" not in self.model_fields_set:
            return EXTERNAL_READY_S
        return self.ready_timeout_s

    @property
    def engine_name(self) -> str:
        """Returns the engine's name, or its file."""
        return self.engine if self.url is None else EXTERNAL

    @property
    def tells_its_key(self) -> bool:
        """Whether a key leaves this machine unencrypted."""
        url = self.url or ""
        return self.api_key is not None and url.lower().startswith("http:") and not is_here(url)

    @property
    def lock(self) -> str:
        """The name of the environment's lock."""
        return self.environment or self.default_lock(self.gpus)

    def default_lock(self, gpus: int) -> str:
        """Returns the lock's name where `environment` is null."""
        return f"{PurePath(self.engine).stem}-{'cuda' if gpus else 'cpu'}"


class ServerLimits(Section):
    """What holds for all servers."""

    max_at_once: Annotated[int, Field(ge=1)] | None = None
    """Servers of this project that run at once; null: one on one machine, any number on a cluster."""
    renew_before_min: Annotated[float, Field(gt=0)] | None = 30
    """On a cluster: so long before a server's time ends its successor is submitted, which takes over once it
    answers. null: the server's job is requeued when its time ends, and evaluations wait for it."""
