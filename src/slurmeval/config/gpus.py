"""The table of GPUs, by the names that site files use."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("gpus.yaml")
CPU_CORE = "cpu-core"


@dataclass(frozen=True)
class GpuKind:
    """What a GPU can do at most, as its makers state it."""

    memory_gb: float
    """GiB."""
    bandwidth_gb_s: float
    """Of its memory, in 10⁹ bytes a second."""
    tflops: float
    """In 16 bits, dense: 10¹² a second."""
    source: str


@functools.cache
def gpus() -> dict[str, GpuKind]:
    """Returns what is known of each kind of GPU, and of a core."""
    return {name: GpuKind(**row) for name, row in yaml.safe_load(FILE.read_text(encoding="utf-8")).items()}


def known(name: str) -> str:
    """Returns the name of a GPU.

    Raises:
        ValueError: It is not in the table.
    """
    names = [each for each in gpus() if each != CPU_CORE]
    if name not in names:
        raise ValueError(f"{name!r} is not known; expected one of {', '.join(names)}")
    return name
