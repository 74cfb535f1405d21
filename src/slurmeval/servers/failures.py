"""Why vLLM ended, in one sentence, from the tail of its own log. Recorded logs stand beside the tests."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass

from slurmeval.errors import ErrorClass

TAIL_BYTES = 64 * 1024
"""As much of a log's end as holds vLLM's three nested tracebacks."""

MAX_REASON = 300

USAGE = 2
"""The status of a program that refuses its command line: another start ends in the same way."""


@dataclass(frozen=True)
class Failure:
    """The end of one life of vLLM."""

    reason: str
    """One sentence for a person."""
    error_class: ErrorClass
    retryable: bool
    """Whether starting it again with the same flags may help."""
    port_taken: bool = False
    """Whether another port will do; then it counts as no restart."""


Describe = Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class _Known:
    """An error that vLLM is known to print."""

    pattern: re.Pattern[str]
    describe: Describe
    error_class: ErrorClass = ErrorClass.SERVER_LOST
    retryable: bool = False
    port_taken: bool = False


def _known(
    pattern: str, describe: str, error_class: ErrorClass = ErrorClass.SERVER_LOST, **more: bool
) -> _Known:
    """`describe` is a template for `Match.expand`."""
    return _Known(
        re.compile(pattern, re.MULTILINE), lambda match: match.expand(describe), error_class, **more
    )


_MEMORY = ErrorClass.OUT_OF_MEMORY

OVER_THE_LIMIT = Failure(
    "vLLM was killed at its job's memory limit: raise servers.<id>.memory_gb", _MEMORY, retryable=True
)
"""What the kernel did, which no log says."""

_RAISED = r"^(?:\([^)]*pid=\d+\) )?(?:ERROR [^\]]*\] )?"
"""How a line begins on which a traceback ends: warnings tell of the like too."""

# The first that matches wins: causes before consequences.
KNOWN = (
    _known(r"Address already in use", "the server's port is in use", retryable=True, port_taken=True),
    _known(
        r"error: ((?:unrecognized arguments: |argument |ambiguous option: |the following arguments ).+)$",
        r"vLLM refuses its command line: \1",
    ),
    _known(
        r"(?:invalid reasoning parser: |Reasoning parser ')([^\s']+)",
        r"this version of vLLM has no reasoning parser \1: see models.<id>.reasoning.parser",
    ),
    _known(
        r"Model architectures? \[(.+?)\] (?:are|is) not supported",
        r"this version of vLLM does not know the model's architecture \1",
    ),
    _known(
        r"model type `(.+?)` but Transformers does not recognize",
        r"the environment's transformers does not know the model type '\1'",
    ),
    _known(
        r"(?:User-specified )?max_model_len \((\d+)\) is greater than the derived max_model_len "
        r"\(max_position_embeddings=([\d.]+?)(?:\.0)?\b",
        r"max_model_len \1 is greater than the \2 tokens that the model was made for",
    ),
    _known(
        r"max seq len \((\d+)\).*?([\d.]+ GiB) KV cache is needed, which is larger than the "
        r"available KV cache memory \(([\d.]+ GiB)\)",
        r"the KV cache is too small for max_model_len \1: \2 are needed, \3 are there",
        _MEMORY,
    ),
    _known(
        r"[Nn]o available memory for the cache blocks",
        "no memory is left for the KV cache: the model fills what vLLM may use",
        _MEMORY,
    ),
    _known(
        r"Available memory on node \d+ \((.+?)\) on kv cache allocation is less than requested memory "
        r"for kv \((.+?)\)",
        r"the KV cache does not fit into memory: \2 asked for, \1 available",
        _MEMORY,
    ),
    _known(
        r"Free memory on device.*? \(([\d.]+/[\d.]+ GiB)\).*?less than desired",
        r"too little GPU memory is free: \1",
        _MEMORY,
    ),
    _known(
        r"(?:CUDA|HIP|XPU) out of memory",
        "out of GPU memory",
        _MEMORY,
    ),
    _known(
        r"DefaultCPUAllocator: can't allocate memory|^MemoryError|Cannot allocate memory|\bbad_alloc\b",
        "out of memory on the host",
        _MEMORY,
    ),
    _known(
        r"(?:GatedRepoError|Access to model (\S+) is restricted)",
        "the weights are gated: ask for access on the hub",
    ),
    _known(
        r"Cannot find any model weights with|no such weights|No \.?safetensors (?:files )?found",
        "the model's folder has no weights",
    ),
    _known(
        r"SafetensorError: (.+)$|safetensors_rust\.\w+: (.+)$",
        r"the model's weights are broken: \1",
    ),
    _known(
        r"HFValidationError: .*?: '(.+?)'\. Use `repo_type`|(?:model|folder|path) '?(/\S+?)'? does not exist",
        "the model's folder does not exist",
    ),
    _known(
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|RepositoryNotFoundError|couldn't connect to 'https://huggingface",
        "the model's weights are not on this machine and the hub is not asked",
    ),
    _known(r"does not appear to have a file named (\S+?)[\s.]", r"the model's folder has no \1"),
    _known(
        r"Bfloat16 is only supported on GPUs with compute capability of at least ([\d.]+)",
        r"this GPU has no bfloat16 (compute capability \1 is needed): set dtype to float16",
    ),
    _known(
        r"torch\.(\w+) is not supported for quantization method (\w+)",
        r"quantization \2 does not go with dtype \1",
    ),
    _known(r"Unknown quantization method: ([\w.-]+)", r"vLLM does not know the quantization method \1"),
    _known(
        r"chat template string \((.+?)\) appears path-like, but doesn't exist",
        "the chat template's file does not exist",
    ),
    _known(
        r"invalid literal for int\(\) with base 10: '((?:MIG|GPU)-[\w-]+)'",
        r"this vLLM does not take a GPU by its name \1, which CUDA_VISIBLE_DEVICES has: ask for whole GPUs",
    ),
    _known(
        r"NVIDIA driver on your system is too old \(found version (\d+)\)",
        r"this node's NVIDIA driver (CUDA \1) is too old for the environment's torch",
    ),
    _known(
        r"CUDA driver version is insufficient for CUDA runtime version",
        "this node's NVIDIA driver is too old for the environment's CUDA",
    ),
    _known(
        r"no kernel image is available for execution on the device",
        "the environment's torch was not built for this GPU",
    ),
    _known(
        r"No (?:CUDA|HIP) GPUs are available|Found no NVIDIA driver on your system",
        "vLLM finds no GPU here: servers.<id>.gpus says how many the job asks for",
    ),
    _known(
        r"version `(GLIBC\w*_[\d.]+)' not found",
        r"this node's system is too old for the environment: \1 is missing",
    ),
    _known(
        r"(lib[\w.+-]+\.so[\d.]*): cannot open shared object file",
        r"the library \1 is missing on this node",
    ),
    _known(
        r"attention heads \((\d+)\) must be divisible by tensor parallel size \((\d+)\)",
        r"the model's \1 attention heads cannot be divided among \2 GPUs: change servers.<id>.gpus",
    ),
    _known(
        r"Can't load (?:the )?tokenizer for|Couldn't instantiate the backend tokenizer",
        "the model's folder has no tokenizer that can be loaded",
    ),
    _known(
        r"No such file or directory: '?\"?(?:[^'\"\n]*/)?([^'\"\n/]+\.safetensors)",
        r"the model's folder has no \1",
    ),
    _known(
        r"(?:ipc|AF_UNIX) path (?:.* )?(?:is longer than \d+ characters|too long)",
        "the path of vLLM's sockets is too long: set TMPDIR in servers.<id>.env to a shorter folder",
    ),
    _known(
        rf"{_RAISED}\w*Error: \[Errno (?:28|122)\] [^:\n]+: '([^'\n]+)'",
        r"the disk is full or over quota at \1",
    ),
    _known(
        rf"{_RAISED}\w*Error: \[Errno (?:1|13|30)\] [^:\n]+: '([^'\n]+)'",
        r"\1 cannot be written or read on this node",
    ),
)

_EXCEPTION = re.compile(
    rf"{_RAISED}((?:\w+\.)*\w*(?:Error|Exception|Interrupt)): (.+)$",
    re.MULTILINE,
)
_USAGE_ERROR = re.compile(r"^[^\s:]+: error: (.+)$", re.MULTILINE)
_PYDANTIC = re.compile(r"^ +(?:Value|Assertion) error, (.+?)(?: \[type=.*)?$", re.MULTILINE)
_CONSEQUENCES = (
    "Engine core initialization failed",
    "WorkerProc initialization failed",
    "EngineCore encountered an issue",
)


def classify(log_tail: str, returncode: int | None) -> Failure:
    """The failure that a life's log and exit status tell of. `returncode` is as in subprocess (negative: a
    signal), None where vLLM was still running."""
    for known in KNOWN:
        match = known.pattern.search(log_tail)
        if match is not None:
            reason = _one_line(known.describe(match))
            return Failure(reason, known.error_class, known.retryable, known.port_taken)
    if returncode is not None and returncode < 0:
        return Failure(
            f"vLLM was killed by {_signal_name(-returncode)}", ErrorClass.SERVER_LOST, retryable=True
        )
    return Failure(_unknown(log_tail, returncode), ErrorClass.SERVER_LOST, retryable=returncode != USAGE)


def _unknown(log_tail: str, returncode: int | None) -> str:
    if returncode == USAGE and (said := _USAGE_ERROR.findall(log_tail)):
        return _one_line(f"vLLM refuses its command line: {said[-1]}")
    details = _PYDANTIC.findall(log_tail)
    exceptions = [
        (name.rpartition(".")[2], text)
        for name, text in _EXCEPTION.findall(log_tail)
        if not text.startswith(_CONSEQUENCES)
    ]
    if details:
        return _one_line(f"vLLM ended: {details[-1]}")
    if exceptions:
        return _one_line("vLLM ended: {}: {}".format(*exceptions[-1]))
    return (
        f"vLLM ended with status {returncode} and no error in its log"
        if returncode is not None
        else "vLLM hangs"
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_REASON else f"{text[: MAX_REASON - 1]}…"
