"""vLLM in an image: what of the machine it sees."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from slurmeval.config.site import Containers
from slurmeval.containers.apptainer import Apptainer, Bind, with_targets
from slurmeval.servers.command_line import CACHES
from slurmeval.servers.spec import ServerSpec

PASSED = ("CUDA_VISIBLE_", "ROCR_VISIBLE_", "HIP_VISIBLE_", "NCCL_", "RCCL_", "UCX_", "FI_", "VLLM_", "OMP_")
"""Beginnings of variables that say how to use this node's devices and network; all others stay outside."""


def base_environment(spec: ServerSpec) -> Mapping[str, str]:
    """What vLLM's environment is made from."""
    if spec.image is None:
        return os.environ
    return {
        name: value for name, value in os.environ.items() if name.startswith(PASSED) or name == "SLURM_JOB_ID"
    }


def started(spec: ServerSpec, argv: list[str], env: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """What starts vLLM: its command itself, or the same in its image. Raises UserError where there is no
    Apptainer."""
    if spec.cache is not None:
        for folder in CACHES.values():
            (Path(spec.cache) / str(spec.replica) / folder).mkdir(parents=True, exist_ok=True)
    if spec.image is None:
        return argv, env
    apptainer = Apptainer.find(Containers.model_validate(spec.containers))
    cache = (
        Path(spec.cache) / str(spec.replica)
        if spec.cache
        else Path(spec.servers).parent / "cache" / spec.model
    )
    home = cache / "home"
    home.mkdir(parents=True, exist_ok=True)
    binds = [Bind(Path("/tmp"), writable=True), Bind(cache, writable=True)]
    binds += [Bind(folder) for folder in with_targets([Path(spec.weights)])]
    if spec.chat_template is not None:
        binds.append(Bind(Path(spec.chat_template)))
    inside = {name: value for name, value in env.items() if name not in ("PATH", "HOME")}
    contained = apptainer.exec_argv(
        Path(spec.image), argv, binds=binds, cwd=home, home=home, gpu=spec.gpus > 0
    )
    return contained, apptainer.environment(inside)
