"""Starts an engine on this node: in its environment, or in its image."""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

from slurmeval.config.site import Containers
from slurmeval.containers.apptainer import Apptainer, Bind, with_targets
from slurmeval.containment.scratch_dir import scratch_dir
from slurmeval.engines.base import Engine, Rank
from slurmeval.servers.engine_process import EngineProcess
from slurmeval.servers.ports import EVERYWHERE, BindAddress
from slurmeval.slurm.own_job import JOB_ID
from slurmeval.state.server_spec import ServerSpec
from slurmeval.variables import OWN_PYTHON, PROXIES, forget_missing_certificates, proxies

QUIET = {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **OWN_PYTHON}
"""An engine's environment unless the config says otherwise: weights are staged."""

NOT_INHERITED = ("PYTHON", "VIRTUAL_ENV")
"""Beginnings of variables that belong to the interpreter that runs the supervisor, or to a user's own."""

INTO_IMAGES = ("CUDA_VISIBLE_", "ROCR_VISIBLE_", "HIP_VISIBLE_", "NCCL_", "RCCL_", "UCX_", "FI_", "OMP_")
"""Beginnings of variables that say how to use this node's devices and network; all others stay outside, but
the engine's own."""

FIRST_PORT, PORTS_PER_SERVER, PORT_BLOCKS = 12_000, 50, 400
"""Where engines look for ports for themselves, below those that Linux gives to clients."""

LONGEST_PARENT = 26
"""Characters of the folder in which that of the sockets lies. The path of a socket has 107 at most, of which
vLLM's names take 37 and more."""

_SECRET = re.compile(
    r"(^|_)(TOKENS?|SECRETS?|PASSWORDS?|PASSWD|CREDENTIALS?|(API|ACCESS|PRIVATE)_?KEYS?|COOKIE|JWT)(_|$)",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Returns whether a variable of this name is taken for a secret, such as HF_TOKEN or OPENAI_API_KEY."""
    return _SECRET.search(name) is not None


def launch(
    engine: Engine,
    spec: ServerSpec,
    here: BindAddress,
    log: Path,
    *,
    port: int,
    api_key: str,
    rank: Rank | None,
) -> EngineProcess:
    """Starts the engine, or its part on this node.

    Raises OSError where its interpreter cannot be run, and UserError where there is no Apptainer for its
    image.
    """
    address = None if rank is None or here.bind in EVERYWHERE else here.bind
    with contextlib.ExitStack() as stack:
        sockets = stack.enter_context(scratch_dir(LONGEST_PARENT)).socket_folder
        env = environment(engine, spec, inherited(engine, spec), api_key, address, sockets)
        argv, env = in_image(engine, spec, engine.argv(spec, here.bind, port, rank), env)
        return EngineProcess(engine, argv, env, log, stack.pop_all())


def inherited(engine: Engine, spec: ServerSpec) -> Mapping[str, str]:
    """Returns the variables of this process that an engine may have."""
    if spec.image is None:
        return os.environ
    passed = (*INTO_IMAGES, *engine.variable_prefixes)
    return {name: value for name, value in os.environ.items() if name.startswith(passed) or name == JOB_ID}


def environment(
    engine: Engine,
    spec: ServerSpec,
    base: Mapping[str, str],
    api_key: str,
    address: str | None = None,
    sockets: Path | None = None,
) -> dict[str, str]:
    """Returns the engine's variables.

    They are `base` without NOT_INHERITED and without secrets (weights are staged, so it needs none), the
    engine's, the spec's, and the key. `address`: this node's, for a server on several; `sockets`: the folder
    of its sockets.
    """
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
    first_port = None
    if spec.is_on_slurm:  # servers that share a node would else race for ports
        block = zlib.crc32(f"{spec.servers} {base.get(JOB_ID)}".encode()) % PORT_BLOCKS
        first_port = FIRST_PORT + block * PORTS_PER_SERVER
    if (cache := cache_folder(spec)) is not None:
        env |= {name: str(cache / folder) for name, folder in engine.caches.items()}
    if sockets is not None and engine.sockets_variable:
        env[engine.sockets_variable] = str(sockets)
    own = engine.environment(env, address=address, first_port=first_port)
    return {**env, **own, **QUIET, **spec.env, engine.api_key_variable: api_key}


def cache_folder(spec: ServerSpec) -> Path | None:
    """Returns the folder of what this server's engine keeps.

    A home folder may be read-only or over quota on nodes, and servers that share one would race.
    """
    return None if spec.cache is None else Path(spec.cache) / str(spec.replica)


def in_image(
    engine: Engine, spec: ServerSpec, argv: list[str], env: dict[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Returns the command itself, or the same in the spec's image.

    Raises UserError where there is no Apptainer.
    """
    cache = cache_folder(spec)
    if cache is not None:
        for folder in engine.caches.values():
            (cache / folder).mkdir(parents=True, exist_ok=True)
    if spec.image is None:
        return argv, env
    apptainer = Apptainer.find(Containers.model_validate(spec.containers))
    cache = cache or Path(spec.servers).parent / "cache" / spec.model
    home = cache / "home"
    home.mkdir(parents=True, exist_ok=True)
    binds = [Bind(Path("/tmp"), writable=True), Bind(cache, writable=True)]
    sockets = Path(env.get(engine.sockets_variable, "/tmp"))
    binds += [] if sockets.is_relative_to("/tmp") else [Bind(sockets, writable=True)]
    binds += [Bind(folder) for folder in with_targets([Path(spec.weights)])]
    if spec.chat_template is not None:
        binds.append(Bind(Path(spec.chat_template)))
    inside = {name: value for name, value in env.items() if name not in ("PATH", "HOME")}
    contained = apptainer.exec_argv(
        Path(spec.image), argv, binds=binds, cwd=home, home=home, gpu=spec.gpus > 0
    )
    return contained, apptainer.environment(inside)
