"""What vLLM is started with: its command line and its environment."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slurmeval.servers.spec import ServerSpec
from slurmeval.variables import OWN_PYTHON, PROXIES, forget_missing_certificates, proxies

QUIET = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "PYTHONUNBUFFERED": "1", **OWN_PYTHON}
"""vLLM's environment unless the config says otherwise: weights are staged, and nothing is reported."""

NOT_INHERITED = ("PYTHON", "VIRTUAL_ENV")
"""Beginnings of variables that belong to the interpreter that runs the supervisor, or to a user's own."""

CACHES = {
    "HOME": "home",
    "XDG_CACHE_HOME": "home/.cache",
    "VLLM_CONFIG_ROOT": "config",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TORCH_EXTENSIONS_DIR": "torch-extensions",
    "CUDA_CACHE_PATH": "cuda",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    "DG_JIT_CACHE_DIR": "deep-gemm",
    "TILELANG_CACHE_DIR": "tilelang",
    "NUMBA_CACHE_DIR": "numba",
    "HF_MODULES_CACHE": "modules",
    "MIOPEN_USER_DB_PATH": "miopen",
    "MIOPEN_CUSTOM_CACHE_DIR": "miopen",
}
"""Where vLLM and its compilers keep what they make, beside VLLM_CACHE_ROOT. A home folder may be read-only or
over quota on nodes, and nodes that share it would race."""

LONGEST_SOCKET_FOLDER = 60
"""A socket's path has 107 characters at most, and vLLM's names have 37 and more."""

_SECRET = re.compile(
    r"(^|_)(TOKENS?|SECRETS?|PASSWORDS?|PASSWD|CREDENTIALS?|(API|ACCESS|PRIVATE)_?KEYS?|COOKIE|JWT)(_|$)",
    re.IGNORECASE,
)

PARALLEL = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size")
"""Flags by which the config splits the model itself."""

PORTS, PORT_STRIDE, PORT_BLOCKS = 12_000, 50, 400
"""Where vLLM looks for ports for itself, below those that Linux gives to clients: 50 for each server."""


@dataclass(frozen=True)
class Rank:
    """The part of a server that runs on one of its nodes."""

    number: int
    """0 answers requests."""
    master: str
    """Address of rank 0."""
    master_port: int


def is_secret(name: str) -> bool:
    """Whether a variable of this name is taken for a secret, such as HF_TOKEN or OPENAI_API_KEY."""
    return _SECRET.search(name) is not None


def vllm_argv(spec: ServerSpec, bind: str, port: int, rank: Rank | None = None) -> list[str]:
    """vLLM's command line; `rank` where it runs on several nodes. The API key is not in it: other users read
    command lines."""
    argv = [spec.python, "-m", "vllm.entrypoints.openai.api_server", "--model", spec.weights]
    if rank is not None and rank.number > 0:
        # api_server does not know --headless: it would serve.
        argv = [spec.python, "-m", "vllm.entrypoints.cli.main", "serve", spec.weights, "--headless"]
    argv += ["--served-model-name", spec.served_name]
    if rank is None or rank.number == 0:
        argv += ["--host", bind, "--port", str(port)]
    argv += ["--dtype", spec.dtype]
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
    if spec.reasoning_parser is not None:
        argv += ["--reasoning-parser", spec.reasoning_parser]
    argv += _parallel(spec, rank)
    for name, value in spec.flags.items():
        if value is None or value is True:
            argv.append(f"--{name}")
        elif value is False:
            argv.append(f"--no-{name}")
        else:
            argv.append(f"--{name}={value}")
    return argv


def _parallel(spec: ServerSpec, rank: Rank | None) -> list[str]:
    """How the model is split over GPUs and nodes, unless the flags say so themselves."""
    said = {name.replace("_", "-") for name in spec.flags}
    argv = []
    if said.isdisjoint(PARALLEL):
        if spec.gpus > 1:
            argv += ["--tensor-parallel-size", str(spec.gpus)]
        if spec.nodes > 1:
            argv += ["--pipeline-parallel-size", str(spec.nodes)]
    if rank is not None:
        argv += ["--nnodes", str(spec.nodes), "--node-rank", str(rank.number)]
        argv += ["--master-addr", rank.master, "--master-port", str(rank.master_port)]
        if "distributed-executor-backend" not in said:
            argv += ["--distributed-executor-backend", "mp"]
    return argv


def vllm_environment(
    spec: ServerSpec, base: Mapping[str, str], api_key: str, bind: str | None = None
) -> dict[str, str]:
    """vLLM's environment variables: `base` without NOT_INHERITED and without secrets (weights are staged, so
    vLLM needs none), the spec's own, and the key. `bind`: the node's address, for a server on several."""
    env = {
        name: value
        for name, value in base.items()
        if not name.startswith(NOT_INHERITED) and not is_secret(name)
    }
    forget_missing_certificates(env)
    if any(name in env for name in PROXIES):
        env |= proxies(env)
    if not env.get("CUDA_VISIBLE_DEVICES"):
        env.pop("CUDA_VISIBLE_DEVICES", None)  # submitit's local executor hides all GPUs with an empty value
    env["PATH"] = f"{Path(spec.python).parent}:{env.get('PATH', '/usr/bin:/bin')}"
    if spec.cluster == "slurm":
        # Servers that share a node would else race for ports.
        block = zlib.crc32(f"{spec.servers} {base.get('SLURM_JOB_ID')}".encode()) % PORT_BLOCKS
        env["VLLM_PORT"] = str(PORTS + block * PORT_STRIDE)
    if spec.cache is not None:
        root = f"{spec.cache}/{spec.replica}"  # none is shared by servers that run at once
        env |= {"VLLM_CACHE_ROOT": root, **{name: f"{root}/{folder}" for name, folder in CACHES.items()}}
    if len(env.get("TMPDIR", "")) > LONGEST_SOCKET_FOLDER:
        env["VLLM_RPC_BASE_PATH"] = "/tmp"
    if bind is not None:
        env["VLLM_HOST_IP"] = bind
    return {**env, **QUIET, **spec.env, "VLLM_API_KEY": api_key}
