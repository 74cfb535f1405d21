"""Context of a model: the longest prompt and answer together that its server accepts, in tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slurmeval.config.models import Model
from slurmeval.engines.base import Engine

_LENGTHS = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"),
    *("max_target_positions", "max_sequence_length", "max_seq_length", "seq_len"),
)
"""The names that models give it in config.json, as vLLM 0.32 knows them; the smallest counts."""
_TEXT_PARTS = ("text_config", "llm_config", "decoder", "generator")
"""Where the config.json of a model with images or sound holds that of its text model."""
_SCALED_ALREADY = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")
"""Kinds of RoPE scaling whose factor is in the length already."""


def context_length(folder: Path, max_model_len: int | None) -> int | None:
    """Returns the served context in tokens: `max_model_len`, else what vLLM reads from config.json.

    None: config.json does not say.
    """
    if max_model_len is not None:
        return max_model_len
    config = text_config(folder)
    lengths = [length for name in _LENGTHS if (length := _count(config.get(name))) is not None]
    length = _count(config.get("model_max_length")) or min(lengths, default=None)
    if length is None:
        return None
    ropes = list(_ropes(config))
    if any(_kind(rope) == "longrope" for rope in ropes):
        return _count(config.get("original_max_position_embeddings")) or length
    if "gemma3" in str(config.get("model_type")):
        return length
    factors = [rope.get("factor") for rope in ropes if _kind(rope) not in _SCALED_ALREADY]
    factor = next((factor for factor in reversed(factors) if isinstance(factor, int | float)), 1)
    return int(length * factor)


def too_long(folder: Path, model: Model, engine: Engine) -> str | None:
    """Returns why an engine will not serve a model with its `max_model_len`; None: it may."""
    if model.max_model_len is None or engine.allows_longer_context(model.flags, model.env):
        return None
    config = text_config(folder)
    # Of several lengths the largest: which one counts differs from model to model
    found = [context_length(folder, None), *(_count(config.get(name)) for name in _LENGTHS)]
    own = max((length for length in found if length is not None), default=model.max_model_len)
    if model.max_model_len <= own or any(_kind(rope) in _SCALED_ALREADY for rope in _ropes(config)):
        return None
    return (
        f"max_model_len: {model.max_model_len} is greater than the {own} tokens that the model was made for"
    )


def text_config(folder: Path) -> dict[str, Any]:
    """Returns what a model's config.json says of its text model; empty where it cannot be read."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(config, dict):
        return {}
    parts = (config[name] for name in _TEXT_PARTS if isinstance(config.get(name), dict))
    return next(({"model_type": config.get("model_type")} | part for part in parts), config)


def _ropes(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the RoPE settings: one for all layers, or one for each kind of layer."""
    for name in ("rope_parameters", "rope_scaling"):
        rope = config.get(name)
        if isinstance(rope, dict):
            parts = [part for part in rope.values() if isinstance(part, dict)]
            yield from parts or [rope]


def _kind(rope: dict[str, Any]) -> str:
    return str(rope.get("rope_type") or rope.get("type"))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
