"""What a server serves, and how: the one file (`spec.json`) that its job needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slurmeval.config.models import Model, Server
    from slurmeval.paths import Paths

Scalar = str | int | float | bool

QUIET = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "PYTHONUNBUFFERED": "1"}
"""vLLM's environment unless the config says otherwise: weights are staged, and nothing is reported."""


NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
"""Variables that belong to the interpreter that runs the supervisor."""


@dataclass(frozen=True)
class ServerSpec:
    """Everything a server's job needs to know. Two servers of a model are alike when these are equal."""

    model: str
    """The model's id."""
    served_name: str
    """The name in requests."""
    weights: str
    """The model's folder."""
    manifest: str
    """The staged model's manifest."""
    python: str
    """Interpreter of the environment that has vLLM."""
    servers: str
    """Folder of this model's servers."""
    leases: str
    """Folder of this model's leases."""
    controller: str
    """The controller's file: its mtime is the run's beat."""
    slots: str
    """Folder of the slots that bound how many servers run at once."""
    dtype: str = "auto"
    quantization: str | None = None
    max_model_len: int | None = None
    chat_template: str | None = None
    """A Jinja file, absolute."""
    trust_remote_code: bool = False
    generation: dict[str, Scalar] = field(default_factory=dict)
    flags: dict[str, Scalar | None] = field(default_factory=dict)
    """Further flags of vLLM, without dashes in front; None or True: no value; False: its `--no-` form."""
    env: dict[str, str] = field(default_factory=dict)
    ready_timeout_s: float = 1800
    time_limit_min: int = 1440
    max_restarts: int = 3
    drain_s: float = 60
    max_at_once: int = 1
    host: str = "127.0.0.1"
    """The address that vLLM listens on; 0.0.0.0 makes the endpoint name the node."""
    cluster: str = "local"
    """submitit's executor: local or slurm."""
    job: dict[str, Any] = field(default_factory=dict)
    """Further parameters of submitit's AutoExecutor, such as `slurm_partition`."""

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
    server: Server,
    *,
    paths: Paths,
    weights_folder: Path,
    python: Path,
    max_at_once: int,
    project: Path,
    host: str = "127.0.0.1",
) -> ServerSpec:
    """The spec of a model's server from the typed config. `project` is the folder that the config's relative
    files (chat templates) are relative to."""
    return ServerSpec(
        model=model_id,
        served_name=model_id,
        weights=str(weights_folder),
        manifest=str(paths.staged_model(model_id)),
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
        generation=dict(model.generation),
        flags={**server.flags, **model.flags},
        env=dict(server.env),
        ready_timeout_s=server.ready_timeout_s,
        time_limit_min=server.time_limit_min,
        max_restarts=server.max_restarts,
        drain_s=server.drain_s,
        max_at_once=max_at_once,
        host=host,
    )


def vllm_argv(spec: ServerSpec, port: int) -> list[str]:
    """vLLM's command line. The API key is not in it: other users read command lines."""
    argv = [spec.python, "-m", "vllm.entrypoints.openai.api_server"]
    argv += ["--model", spec.weights, "--served-model-name", spec.served_name]
    argv += ["--host", spec.host, "--port", str(port), "--dtype", spec.dtype]
    if spec.quantization is not None:
        argv += ["--quantization", spec.quantization]
    if spec.max_model_len is not None:
        argv += ["--max-model-len", str(spec.max_model_len)]
    if spec.chat_template is not None:
        argv += ["--chat-template", spec.chat_template]
    if spec.trust_remote_code:
        argv.append("--trust-remote-code")
    if spec.generation:
        argv += ["--override-generation-config", json.dumps(spec.generation)]
    for name, value in spec.flags.items():
        if value is None or value is True:
            argv.append(f"--{name}")
        elif value is False:
            argv.append(f"--no-{name}")
        else:
            argv.append(f"--{name}={value}")
    return argv


def vllm_environment(spec: ServerSpec, base: Mapping[str, str], api_key: str) -> dict[str, str]:
    """vLLM's environment variables: `base` without NOT_INHERITED, the spec's own, and the key."""
    env = {name: value for name, value in base.items() if name not in NOT_INHERITED}
    if not env.get("CUDA_VISIBLE_DEVICES"):
        env.pop("CUDA_VISIBLE_DEVICES", None)  # submitit's local executor hides all GPUs with an empty value
    env["PATH"] = f"{Path(spec.python).parent}:{env.get('PATH', '/usr/bin:/bin')}"
    return {**env, **QUIET, **spec.env, "VLLM_API_KEY": api_key}
