"""The config's section on activation patching: which pairs, what is patched, and on what it runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slurmeval.config.sources import Section

Site = Literal["resid", "attn", "mlp", "heads", "heads_by_position"]


class PatchingSettings(Section):
    """Activation patching, for the harness `patching` (docs/patching.md)."""

    sites: Annotated[list[Site], Field(min_length=1)] = ["resid", "attn", "mlp", "heads"]
    """What is patched: the residual stream before a layer, the outputs of attention and of the MLP, each at
    every position; each attention head at all positions, or at each."""
    every_layer: Annotated[int, Field(ge=1)] = 1
    """Patch every n-th layer, from the first."""
    batch: Annotated[int, Field(ge=1)] = 16
    """Pairs that are patched at once. Alters no result beyond rounding."""
    gpus: Annotated[int, Field(ge=0)] = 1
    """GPUs of its job; 0: it runs on the CPU. With more than one the layers are spread over them."""
    memory_gb: Annotated[float, Field(gt=0)] = 32
    """Memory of its job where it has GPUs, in GB."""
