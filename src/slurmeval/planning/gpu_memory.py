"""Whether a model fits the GPUs that its server asks for, by its config.json, before a job is queued.

An engine needs the weights and the KV cache of at least one request of full length. What else it needs
(activations, graphs) is left out, and where a model's cache cannot be told, that is too: what is refused here
cannot fit, and what is not may still turn out too large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurmeval.config.models import Model
from slurmeval.config.serving import Serving
from slurmeval.engines.flags import canonical
from slurmeval.harnesses.context import context_length, text_config
from slurmeval.progress import size_text
from slurmeval.state.manifest import StagedFile

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}
QUANTIZED_BYTES = 1.0
"""Of a parameter of quantized weights, roughly: between 4 and 8 bits, and what is left in 16."""
WEIGHTS = (".safetensors", ".bin")
SPLIT = frozenset({"tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "cpu-offload-gb"})
"""Flags by which a config itself says where weights go."""
OTHER_CACHES = ("kv_lora_rank", "attn_layer_period", "ssm_cfg", "mamba_d_state", "layers_block_type")
"""Keys of a config.json whose models keep less than a plain KV cache."""
FULL = "full_attention"
GIB = 1024**3
MOST_GPUS = 64
SHORTEST = 16
"""Tokens of context: with fewer a model is of no use."""


@dataclass(frozen=True)
class Need:
    """What one GPU of a server must hold, in bytes."""

    weights: float
    cache_per_token: float
    context: int

    @property
    def total(self) -> float:
        """Returns the sum for one request of full length."""
        return self.weights + self.cache_per_token * self.context

    @property
    def words(self) -> str:
        """Returns the sum as text."""
        cache = self.cache_per_token * self.context
        of_cache = f" and {size_text(cache)} for the KV cache of {self.context:,} tokens" if cache else ""
        return f"{size_text(self.weights)} of weights{of_cache}"


def need_of(folder: Path, files: Sequence[StagedFile], model: Model, server: Serving) -> Need | None:
    """Returns what each GPU of a model's server must hold; None where that cannot be told.

    Args:
        folder: The model's folder, with its config.json.
        files: The files of its repository, with their sizes.
        model: Its entry in the config.
        server: Its server's entry.
    """
    flags = {canonical(name) for name in (*server.flags, *model.flags)}
    if not server.gpus or model.quantization is not None or flags & SPLIT:
        return None
    return _need(folder, stored_bytes(files), model, server.gpus, server.nodes)


def too_large(
    folder: Path,
    files: Sequence[StagedFile],
    model: Model,
    server: Serving,
    gpu_memory_gb: float | None,
) -> str | None:
    """Returns why a model does not fit its server's GPUs, with the sum; None: it may, as far as known.

    `gpu_memory_gb` is the memory of one GPU, in GiB (None: not known); the rest is as in `need_of`.
    """
    need = need_of(folder, files, model, server)
    if gpu_memory_gb is None or need is None:
        return None
    room = gpu_memory_gb * GIB
    if need.total <= room:
        return None
    gpus = f"{server.gpus * server.nodes} GPU{'s' if server.gpus * server.nodes > 1 else ''}"
    return (
        f"does not fit {gpus} of {gpu_memory_gb:.4g} GB: each would hold {need.words}; "
        f"{_remedies(need, room, folder, stored_bytes(files), model, server)}"
    )


def stored_bytes(files: Sequence[StagedFile]) -> float:
    """Returns the bytes of a model's weights, as they are stored."""
    return float(sum(file.size for file in files if file.path.endswith(WEIGHTS)))


def _need(folder: Path, stored: float, model: Model, gpus: int, nodes: int) -> Need:
    """Returns what each GPU holds where layers are split over GPUs, and groups of layers over nodes."""
    config = text_config(folder)
    weights = stored * bytes_of_parameter(config, model.dtype)[0] / (gpus * nodes)
    context = context_length(folder, model.max_model_len) or 0
    return Need(weights, (cache_per_token(config, gpus) or 0.0) / nodes, context)


def cache_per_token(config: dict[str, Any], gpus: int = 1) -> float | None:
    """Returns the bytes of one token's KV cache on each of so many GPUs; None: that cannot be told."""
    heads = _count(
        config, "num_key_value_heads" if config.get("num_key_value_heads") else "num_attention_heads"
    )
    layers, width = _count(config, "num_hidden_layers"), _head_width(config)
    if _keeps_less(config) or not (heads and layers and width):
        return None
    heads_here = -(-heads // gpus)
    return float(2 * 2 * heads_here * width * layers)


def _keeps_less(config: dict[str, Any]) -> bool:
    """Returns whether some layers keep less than all tokens in full."""
    window = config.get("sliding_window") and config.get("use_sliding_window", True)
    kinds = set(config.get("layer_types") or [FULL])
    return bool(window) or kinds != {FULL} or any(config.get(key) for key in OTHER_CACHES)


def _head_width(config: dict[str, Any]) -> int | None:
    if (width := _count(config, "head_dim")) is not None:
        return width
    hidden, heads = _count(config, "hidden_size"), _count(config, "num_attention_heads")
    return hidden // heads if hidden and heads else None


def _count(config: dict[str, Any], key: str) -> int | None:
    """Returns a number of a model's config; None: it has none, or one for each layer."""
    value = config.get(key)
    return value if isinstance(value, int) and value > 0 else None


def bytes_of_parameter(config: dict[str, Any], dtype: str) -> tuple[float, float]:
    """Returns by how much weights grow when they are loaded, and the bytes of a parameter as stored.

    Engines load float32 as 16 bits by default.
    """
    stored = BYTES.get(str(config.get("dtype") or config.get("torch_dtype")))
    if config.get("quantization_config"):
        return 1.0, QUANTIZED_BYTES
    if stored is None:
        return 1.0, 2.0
    return (min(stored, 2) if dtype == "auto" else BYTES[dtype]) / stored, stored


def _remedies(need: Need, room: float, folder: Path, stored: float, model: Model, server: Serving) -> str:
    found = []
    if need.cache_per_token and (fitting := int((room - need.weights) / need.cache_per_token)) >= SHORTEST:
        found.append(f"max_model_len: {fitting // 1024 * 1024 or fitting}")
    gpus = server.gpus * 2
    while gpus <= MOST_GPUS and _need(folder, stored, model, gpus, server.nodes).total > room:
        gpus *= 2
    if gpus <= MOST_GPUS:
        found.append(f"servers.{model.server}.gpus: {gpus}")
    return f"set {', '.join([*found, 'a pool with larger GPUs'])} or a quantization"
