"""What a build of CUDA asks of a node: driver and compute capability."""

from __future__ import annotations

import re

from slurmeval.environments.locks import Lock

RUNTIMES = (
    "nvidia-cuda-runtime",
    "nvidia-cuda-runtime-cu13",
    "nvidia-cuda-runtime-cu12",
    "nvidia-cuda-runtime-cu11",
)

MIN_DRIVER = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
"""The oldest Linux driver for each major version (docs.nvidia.com/deploy/cuda-compatibility, "minor version
compatibility"); not yet compared with that page."""

MIN_CAPABILITY = {11: "3.5", 12: "5.0", 13: "7.5"}
"""The oldest GPUs that a major version compiles for (release notes of CUDA: 13 dropped Maxwell, Pascal and
Volta); not yet compared with them."""


def cuda_of(lock: Lock) -> str | None:
    """Returns the version of CUDA whose libraries are in a lock, such as `13.0`; None: it has none."""
    versions = (lock.packages.get(name) for name in RUNTIMES)
    found = next((version for version in versions if version is not None), None)
    return None if found is None else ".".join(found.split(".")[:2])


def too_old(cuda: str, driver: str, capability: str) -> str | None:
    """Returns why a GPU with this driver cannot run a build for `cuda`; None: it can, as far as known."""
    major = int(cuda.partition(".")[0])
    needed, least = MIN_DRIVER.get(major), MIN_CAPABILITY.get(major)
    if needed is not None and _numbers(driver) < _numbers(needed):
        return f"the driver is {driver}, and CUDA {cuda} needs {needed} or later"
    if least is not None and capability and _numbers(capability) < _numbers(least):
        return f"the GPU's compute capability is {capability}, and CUDA {cuda} needs {least} or more"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
