"""vLLM, by its OpenAI-compatible server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

from slurmeval.engines.base import (
    TORCH_CACHES,
    Engine,
    EngineSpec,
    Figures,
    Rank,
    metric_sums,
)
from slurmeval.engines.failures import MEMORY, known
from slurmeval.engines.flags import FlagRules, canonical

SERVER = ("-m", "vllm.entrypoints.openai.api_server")
WORKER = ("-m", "vllm.entrypoints.cli.main", "serve")
"""Of further nodes: `api_server` does not know --headless and would serve."""

PARALLEL_FLAGS = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size")
"""Flags by which the config splits the model itself."""

KV_CACHE_SHARE = 0.25
"""Of a server's memory, where it has no GPU; the rest is for weights, their copies and activations."""

HARMLESS_VARIABLES = re.compile(
    r"VLLM_(CPU_(KVCACHE_SPACE|OMP_THREADS_BIND|NUM_OF_RESERVED_CPU|SIM_MULTI_NUMA)|LOG|CONFIGURE_LOGGING|DEBUG_LOG"
    r"|TRACE_FUNCTION|NO_USAGE_STATS|DO_NOT_TRACK|USAGE_|CONFIG_ROOT|ASSETS_|DISABLE_COMPILE_CACHE|RPC_|NCCL_"
    r"|WORKER_MULTIPROC_METHOD|TORCH_PROFILER|PROFILER|KEEP_ALIVE|SLEEP_WHEN_IDLE|RINGBUFFER|OBJECT_STORAGE_SHM"
    r"|LOOPBACK_IP|DP_MASTER|SERVER_DEV_MODE|PORT$|HOST_IP$|\w*TIMEOUT|\w*CACHE_(ROOT|DIR))"
)

METRICS = (
    "vllm:generation_tokens_total",
    "vllm:prompt_tokens_total",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:request_success_total",
)


class Vllm(Engine):
    """vLLM 0.32 and those near it."""

    name = "vLLM"
    package = "vllm"
    program = "vllm"
    variable_prefixes = ("VLLM_",)
    api_key_variable = "VLLM_API_KEY"
    sockets_variable = "VLLM_RPC_BASE_PATH"
    caches: ClassVar[Mapping[str, str]] = {
        "VLLM_CACHE_ROOT": "",
        "VLLM_CONFIG_ROOT": "config",
        **TORCH_CACHES,
    }
    start_lines: ClassVar[Mapping[str, Sequence[str]]] = {
        "weights_s": (
            r"Model loading took .{1,40}? and ([\d.]+) s",
            r"Loading weights took ([\d.]+) s",  # on CPUs
        ),
        "compile_s": (r"init engine \([^)]*\) took ([\d.]+) s",),
    }
    max_sequences = ("max-num-seqs", 256)
    copies_flag = "data-parallel-size"
    consequences = (
        "Engine core initialization failed",
        "WorkerProc initialization failed",
        "EngineCore encountered an issue",
    )
    # Causes before consequences
    known_failures = (
        known(
            r"(?:invalid reasoning parser: |Reasoning parser ')([^\s']+)",
            r"this version of vLLM has no reasoning parser \1: see models.<id>.reasoning.parser",
        ),
        known(
            r"Model architectures? \[(.+?)\] (?:are|is) not supported",
            r"this version of vLLM does not know the model's architecture \1",
        ),
        known(
            r"(?:User-specified )?max_model_len \((\d+)\) is greater than the derived max_model_len "
            r"\(max_position_embeddings=([\d.]+?)(?:\.0)?\b",
            r"max_model_len \1 is greater than the \2 tokens that the model was made for",
        ),
        known(
            r"max seq len \((\d+)\).*?([\d.]+ GiB) KV cache is needed, which is larger than the "
            r"available KV cache memory \(([\d.]+ GiB)\)",
            r"the KV cache is too small for max_model_len \1: \2 are needed, \3 are there",
            MEMORY,
        ),
        known(
            r"[Nn]o available memory for the cache blocks",
            "no memory is left for the KV cache: the model fills what vLLM may use",
            MEMORY,
        ),
        known(
            r"Available memory on node \d+ \((.+?)\) on kv cache allocation is less than requested memory "
            r"for kv \((.+?)\)",
            r"the KV cache does not fit into memory: \2 asked for, \1 available",
            MEMORY,
        ),
        known(
            r"Available memory on node \d+ \((.+?)\) on startup is less than desired CPU memory utilization",
            r"too little memory is free for the KV cache: \1; set VLLM_CPU_KVCACHE_SPACE in servers.<id>.env",
            MEMORY,
        ),
        known(
            r"Free memory on device.*? \(([\d.]+/[\d.]+ GiB)\).*?less than desired",
            r"too little GPU memory is free: \1",
            MEMORY,
        ),
        known(
            r"Cannot find any model weights with|no such weights|No \.?safetensors (?:files )?found",
            "the model's folder has no weights",
        ),
        known(
            r"torch\.(\w+) is not supported for quantization method (\w+)",
            r"quantization \2 does not go with dtype \1",
        ),
        known(r"Unknown quantization method: ([\w.-]+)", r"vLLM does not know the quantization method \1"),
        known(
            r"chat template string \((.+?)\) appears path-like, but doesn't exist",
            "the chat template's file does not exist",
        ),
        known(
            r"invalid literal for int\(\) with base 10: '((?:MIG|GPU)-[\w-]+)'",
            r"this vLLM does not take a GPU by its name \1, which CUDA_VISIBLE_DEVICES has: "
            "ask for whole GPUs",
        ),
        known(
            r"attention heads \((\d+)\) must be divisible by tensor parallel size \((\d+)\)",
            r"the model's \1 attention heads cannot be divided among \2 GPUs: change servers.<id>.gpus",
        ),
        known(
            r"(?:ipc|AF_UNIX) path (?:.* )?(?:is longer than \d+ characters|too long)",
            "the path of vLLM's sockets is too long: set TMPDIR in servers.<id>.env to a shorter folder",
        ),
    )

    def argv(self, spec: EngineSpec, bind: str, port: int, rank: Rank | None = None) -> list[str]:
        """Returns the command line of vLLM's server, or of a worker on a further node."""
        argv = [spec.python, *SERVER, "--model", spec.weights]
        if rank is not None and rank.number > 0:
            argv = [spec.python, *WORKER, spec.weights, "--headless"]
        argv += ["--served-model-name", spec.served_name]
        if rank is None or rank.number == 0:
            argv += ["--host", bind, "--port", str(port)]
        argv += ["--dtype", spec.dtype]
        optional = {
            "quantization": spec.quantization,
            "max-model-len": spec.max_model_len,
            "chat-template": spec.chat_template,
        }
        for name, value in optional.items():
            argv += [] if value is None else [f"--{name}", str(value)]
        if spec.trust_remote_code:
            argv.append("--trust-remote-code")
        if spec.generation:
            argv += ["--override-generation-config", json.dumps(spec.generation)]
        if spec.reasoning_parser is not None:
            argv += ["--reasoning-parser", spec.reasoning_parser]
        return [*argv, *_parallel(spec, rank), *self.switches(spec.flags)]

    def environment(
        self, inherited: Mapping[str, str], *, address: str | None, first_port: int | None
    ) -> dict[str, str]:
        """Returns the variables of this node's ports; nothing is reported to vLLM's makers."""
        env = {"VLLM_NO_USAGE_STATS": "1"}
        if first_port is not None:
            env["VLLM_PORT"] = str(first_port)
        if address is not None:
            env["VLLM_HOST_IP"] = address
        return env

    def without_gpus(self, flags: Mapping[str, object], memory_gb: float) -> dict[str, str]:
        """Returns the KV cache's size, in GiB: a quarter of the memory.

        By itself vLLM wants 92 % of the node's memory to be free, whatever its job asked for.
        """
        if {"kv-cache-memory-bytes", "gpu-memory-utilization"} & set(map(canonical, flags)):
            return {}
        return {"VLLM_CPU_KVCACHE_SPACE": str(max(1, int(memory_gb * KV_CACHE_SHARE)))}

    def figures(self, metrics: str) -> Figures:
        """Returns vLLM's counters, summed over its engines."""
        generated, prompt, running, waiting, requests = metric_sums(metrics, METRICS)
        return Figures(generated, prompt, running + waiting, requests)

    def flag_rules(self) -> FlagRules:
        """Returns the rules in `vllm_flags.yaml`."""
        return _flag_rules()

    def allows_longer_context(self, flags: Mapping[str, object], env: Mapping[str, str]) -> bool:
        """Returns whether the model's own length is overridden, or vLLM told to ignore it."""
        overriding = {"hf-overrides", "rope-scaling", "hf-config-path"}
        return bool(overriding & set(map(canonical, flags))) or "VLLM_ALLOW_LONG_MAX_MODEL_LEN" in env


@cache
def _flag_rules() -> FlagRules:
    return FlagRules.from_file(
        Vllm.name,
        Path(__file__).with_name("vllm_flags.yaml"),
        shares=("gpu-memory-utilization", "device-memory-utilization"),
        counts=("max-num-seqs", "max-num-batched-tokens", "tensor-parallel-size", "pipeline-parallel-size"),
        our_variables=(Vllm.api_key_variable,),
        variables=re.compile(
            r"VLLM_|NVIDIA_TF32_OVERRIDE$|TORCH_ALLOW_TF32|TORCH_FLOAT32|TORCH_BLAS|CUBLAS|CUDNN"
            r"|FLASHINFER_(?!WORKSPACE|\w*CACHE)"
        ),
        harmless_variables=HARMLESS_VARIABLES,
    )


def _parallel(spec: EngineSpec, rank: Rank | None) -> Iterator[str]:
    """Yields how the model is split over GPUs and nodes, unless the flags say so themselves."""
    said = {name.replace("_", "-") for name in spec.flags}
    if said.isdisjoint(PARALLEL_FLAGS):
        if spec.gpus > 1:
            yield from ("--tensor-parallel-size", str(spec.gpus))
        if spec.nodes > 1:
            yield from ("--pipeline-parallel-size", str(spec.nodes))
    if rank is not None:
        yield from ("--nnodes", str(spec.nodes), "--node-rank", str(rank.number))
        yield from ("--master-addr", rank.master, "--master-port", str(rank.master_port))
        if "distributed-executor-backend" not in said:
            yield from ("--distributed-executor-backend", "mp")
