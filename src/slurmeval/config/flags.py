"""Which flags and variables of vLLM a config may set, and where.

What a server has (`servers.<id>`) alters no answer, so it is no part of the key under which answers are kept.
A list of what is known to be harmless says what may stand there; what is new in a later vLLM is refused until
it is known. What a model has (`models.<id>`) is part of that key, and may be anything but what slurmeval sets
itself: vLLM takes the last of two equal flags, and nobody would notice."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

SHARES = ("gpu-memory-utilization", "device-memory-utilization")
"""Flags that take a share of a device's memory, 0 to 1."""
COUNTS = ("max-num-seqs", "max-num-batched-tokens", "tensor-parallel-size", "pipeline-parallel-size")
"""Flags that take a whole number from 1."""
FILE = Path(__file__).with_name("vllm_flags.yaml")

_HARMLESS_VARIABLES = re.compile(
    r"VLLM_(CPU_(KVCACHE_SPACE|OMP_THREADS_BIND|NUM_OF_RESERVED_CPU|SIM_MULTI_NUMA)|LOG|CONFIGURE_LOGGING|DEBUG_LOG"
    r"|TRACE_FUNCTION|NO_USAGE_STATS|DO_NOT_TRACK|USAGE_|CONFIG_ROOT|ASSETS_|DISABLE_COMPILE_CACHE|RPC_|NCCL_"
    r"|WORKER_MULTIPROC_METHOD|TORCH_PROFILER|PROFILER|KEEP_ALIVE|SLEEP_WHEN_IDLE|RINGBUFFER|OBJECT_STORAGE_SHM"
    r"|LOOPBACK_IP|DP_MASTER|SERVER_DEV_MODE|PORT$|HOST_IP$|\w*TIMEOUT|\w*CACHE_(ROOT|DIR))"
)
_ALTERING_VARIABLES = re.compile(
    r"VLLM_|NVIDIA_TF32_OVERRIDE$|TORCH_ALLOW_TF32|TORCH_FLOAT32|TORCH_BLAS|CUBLAS|CUDNN|FLASHINFER_(?!WORKSPACE|\w*CACHE)"
)
_OUR_VARIABLES = ("VLLM_API_KEY",)


@dataclass(frozen=True)
class Flags:
    """What is known of vLLM's flags."""

    ours: Mapping[str, str | None]
    """Set by slurmeval, each with the key of the config that says it."""
    refused: Mapping[str, str]
    """Never to be set, and why."""
    harmless: frozenset[str]
    """Alter no answer."""
    short: Mapping[str, str]
    """Short forms, as `tp`, of which flag."""
    names: frozenset[str]
    """All of them."""
    reasoning_parsers: frozenset[str]
    """Names that --reasoning-parser takes."""
    quantizations: frozenset[str]
    """Names that --quantization takes."""


@cache
def known() -> Flags:
    """The flags of the vLLM for which this was written."""
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    harmless = frozenset(content["harmless"] + content["harmless_before"])
    names = harmless.union(content["ours"], content["refused"], content["other"])
    return Flags(
        content["ours"],
        content["refused"],
        harmless,
        content["short"],
        names,
        frozenset(content["reasoning_parsers"]),
        frozenset(content["quantizations"]),
    )


def canonical(name: str) -> str:
    """A flag as vLLM's list has it: `max-model-len` for `max_model_len`."""
    first, dot, inner = name.partition(".")
    return first.replace("_", "-") + dot + inner


def flag_problems(flags: Collection[str], *, of_model: bool) -> Iterator[tuple[str, str]]:
    """Yields each flag that may not stand among a model's or a server's, with the reason."""
    seen: dict[str, str] = {}
    for given in flags:
        name = canonical(given).partition(".")[0]
        other = seen.setdefault(canonical(given), given)
        problem = _named_otherwise(name) or (None if of_model else _not_harmless(name))
        if problem is None and other != given:
            problem = f"is the same flag as {other}"
        if problem is not None:
            yield given, problem


def _named_otherwise(name: str) -> str | None:
    """What is wrong with a flag wherever it stands; None: nothing."""
    flags = known()
    bare = name.lstrip("-")
    bare = flags.short.get(bare, bare)
    positive = bare.removeprefix("no-")
    said = bare if bare in flags.ours or bare in flags.refused else positive
    if said in flags.refused:
        return f"cannot be set: {flags.refused[said]}"
    if said in flags.ours:
        key = flags.ours[said]
        return f"{said} belongs to {key}" if key else f"slurmeval sets {said} itself"
    if bare != name:
        return f"write it as {bare}"
    if bare not in flags.names and positive not in flags.names:
        longer = sorted(flag for flag in flags.names if positive and flag.startswith(positive))
        if longer:  # argparse would take an abbreviation for the flag itself
            more = ", …" if len(longer) > 3 else ""
            return f"no flag of vLLM; in full it may be: {', '.join(longer[:3])}{more}"
    return None


def _not_harmless(name: str) -> str | None:
    flags = known()
    if name in flags.harmless or name.removeprefix("no-") in flags.harmless:
        return None
    near = [] if name in flags.names else difflib.get_close_matches(name, flags.harmless, n=1, cutoff=0.8)
    hint = f" (or did you mean {near[0]}?)" if near else ""
    return f"may alter answers; put it into models.<id>.flags{hint}"


def misspelt(given: str, names: Collection[str]) -> str | None:
    """Returns what is wrong with a name that is nearly one of `names`; None where it is one, or far from all:
    another vLLM may have it."""
    if given in names:
        return None
    plain = {re.sub(r"[-_.]", "", name).lower(): name for name in names}
    near = plain.get(re.sub(r"[-_.]", "", given).lower())
    found = [near] if near else difflib.get_close_matches(given, sorted(names), n=1, cutoff=0.8)
    return f"'{given}' is not known to vLLM; did you mean '{found[0]}'?" if found else None


def value_problems(flags: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yields each flag whose value vLLM would refuse only once the server runs, with the reason."""
    for name, value in flags.items():
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
        if canonical(name) in SHARES and (number is None or not 0 < number <= 1):
            yield name, f"{value!r} is no share; expected a number above 0, at most 1"
        elif canonical(name) in COUNTS and (not isinstance(number, int) or number < 1):
            yield name, f"{value!r} is no count; expected a whole number, at least 1"


def variable_problems(names: Collection[str], *, of_model: bool) -> Iterator[tuple[str, str]]:
    """Yields each environment variable that may not stand among a model's or a server's, with the reason."""
    for name in names:
        if name in _OUR_VARIABLES:
            yield name, "slurmeval sets it itself"
        elif not of_model and _ALTERING_VARIABLES.match(name) and not _HARMLESS_VARIABLES.match(name):
            yield name, "may alter answers; put it into models.<id>.env"
