"""SGLang, by its OpenAI-compatible server, from the sources of SGLang 0.5.23. It has never been run here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from slurmeval.engines.base import TORCH_CACHES, Engine, EngineSpec, Figures, Rank, metric_sums
from slurmeval.engines.failures import MEMORY, known
from slurmeval.engines.flags import FlagRules, canonical

KEY_VARIABLE = "SGLANG_API_KEY"
LAUNCH = (
    "import os, sys; from sglang.srt.plugins import load_plugins; load_plugins(); "
    "from sglang.launch_server import run_server; from sglang.srt.server_args import prepare_server_args; "
    f"run_server(prepare_server_args([*sys.argv[1:], '--api-key', os.environ.pop('{KEY_VARIABLE}')]))"
)
"""What `python -m sglang.launch_server` does, with the key from a variable: SGLang knows it as a flag alone,
and other users read command lines."""

PARALLEL_FLAGS = frozenset(
    {"tp-size", "tensor-parallel-size", "pp-size", "pipeline-parallel-size", "dp-size"}
)
"""Flags by which the config splits the model itself."""

METRICS = (
    "sglang:generation_tokens_total",
    "sglang:prompt_tokens_total",
    "sglang:num_running_reqs",
    "sglang:num_queue_reqs",
    "sglang:num_requests_total",
)


class SgLang(Engine):
    """SGLang 0.5."""

    name = "SGLang"
    package = "sglang"
    program = "sglang"
    answer_packages = (*Engine.answer_packages, "sgl-kernel", "sglang-kernel", "xgrammar")
    variable_prefixes = ("SGLANG_", "SGL_")
    api_key_variable = KEY_VARIABLE
    caches: ClassVar[Mapping[str, str]] = {"SGLANG_CACHE_DIR": "", **TORCH_CACHES}
    start_lines: ClassVar[Mapping[str, Sequence[str]]] = {
        "weights_s": (r"Load weight end\. elapsed=([\d.]+) s",),
        # With each kind of graph by name; the KV cache is not timed
        "compile_s": (r"(?i)capture [\w ]*graph end\. (?:time elapsed: |elapsed=)([\d.]+) s",),
    }
    max_sequences = ("max-running-requests", 256)
    copies_flag = "dp-size"
    lacks: ClassVar[Mapping[str, str]] = {
        "generation": "SGLang has no defaults of sampling of its own; give them in the benchmarks",
    }
    consequences = ("Scheduler hit an exception", "Rank 0 scheduler is dead", "Initialization failed")
    # Texts of the exceptions in its sources
    known_failures = (
        known(
            r"Model architectures (\[.+?\]) (?:are not supported for now|failed to be inspected)",
            r"this version of SGLang does not know the model's architecture \1",
        ),
        known(
            r"context_length \((\d+)\) is greater than the derived context_length \((\d+)\)",
            r"max_model_len \1 is greater than the \2 tokens that the model was made for",
        ),
        known(
            r"Not enough memory\. Please try to increase --mem-fraction-static",
            "no memory is left for the KV cache: the model fills what SGLang may use",
            MEMORY,
        ),
        known(
            r"The memory capacity is unbalanced\. Some GPUs may be occupied by other processes",
            "others compute on some of the server's GPUs: too little of their memory is free",
            MEMORY,
        ),
        known(r"Unknown quantization method: ([\w.-]+)", r"SGLang does not know the quantization method \1"),
        known(r"Unsupported model type: ([\w.-]+)", r"SGLang has no reasoning parser \1"),
        known(r"Cannot find any model weights with", "the model's folder has no weights"),
    )

    def argv(self, spec: EngineSpec, bind: str, port: int, rank: Rank | None = None) -> list[str]:
        """Returns the command line of SGLang's server, or of a worker on a further node."""
        argv = [spec.python, "-c", LAUNCH, "--model-path", spec.weights]
        argv += ["--served-model-name", spec.served_name, "--host", bind, "--port", str(port)]
        argv += ["--dtype", spec.dtype, "--enable-metrics"]
        optional = {
            "quantization": spec.quantization,
            "context-length": spec.max_model_len,
            "chat-template": spec.chat_template,
            "reasoning-parser": spec.reasoning_parser,
        }
        for name, value in optional.items():
            argv += [] if value is None else [f"--{name}", str(value)]
        if spec.trust_remote_code:
            argv.append("--trust-remote-code")
        if PARALLEL_FLAGS.isdisjoint(map(canonical, spec.flags)):
            argv += ["--tp-size", str(spec.gpus)] if spec.gpus > 1 else []
            argv += ["--pp-size", str(spec.nodes)] if spec.nodes > 1 else []
        if rank is not None:
            argv += ["--nnodes", str(spec.nodes), "--node-rank", str(rank.number)]
            argv += ["--dist-init-addr", f"{rank.master}:{rank.master_port}"]
        return [*argv, *self.switches(spec.flags)]

    def figures(self, metrics: str) -> Figures:
        """Returns SGLang's counters, summed over its schedulers."""
        generated, prompt, running, waiting, requests = metric_sums(metrics, METRICS)
        return Figures(generated, prompt, running + waiting, requests)

    def flag_rules(self) -> FlagRules:
        """Returns what slurmeval sets itself, and the few flags that are known to alter no answer."""
        return FlagRules(
            self.name,
            ours={
                "model-path": "models.<id>.weights",
                "model": "models.<id>.weights",
                "served-model-name": None,
                "host": None,
                "port": None,
                "api-key": None,
                "dtype": "models.<id>.dtype",
                "quantization": "models.<id>.quantization",
                "context-length": "models.<id>.max_model_len",
                "chat-template": "models.<id>.chat_template",
                "reasoning-parser": "models.<id>.reasoning.parser",
                "trust-remote-code": "models.<id>.trust_remote_code",
                "enable-metrics": None,
                "nnodes": None,
                "node-rank": None,
                "dist-init-addr": None,
            },
            harmless=frozenset(
                {
                    "mem-fraction-static",
                    "max-running-requests",
                    "max-queued-requests",
                    "log-level",
                    "log-requests",
                    "watchdog-timeout",
                    "tp-size",
                    "pp-size",
                    "dp-size",
                }
            ),
            shares=("mem-fraction-static",),
            counts=("max-running-requests", "tp-size", "pp-size", "dp-size"),
            our_variables=(KEY_VARIABLE,),
            variables=re.compile(r"SGLANG_|SGL_|NVIDIA_TF32_OVERRIDE$|TORCH_|CUBLAS|CUDNN|FLASHINFER_"),
            harmless_variables=re.compile(r"SGLANG_(LOG|CACHE_DIR|HEALTH_CHECK_TIMEOUT)"),
        )
