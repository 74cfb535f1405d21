"""Why an engine ended, in one sentence, from the tail of its own log."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from slurmeval.errors import ErrorClass

TAIL_BYTES = 64 * 1024
"""As much of a log's end as holds three nested tracebacks."""

MAX_REASON_CHARACTERS = 300

USAGE_STATUS = 2
"""Exit status of a program that refuses its command line: another start ends in the same way."""

MEMORY = ErrorClass.OUT_OF_MEMORY


@dataclass(frozen=True)
class Failure:
    """The end of one run of an engine."""

    reason: str
    """One sentence for a person."""
    error_class: ErrorClass
    retryable: bool
    """Whether starting it again with the same flags may help."""
    port_taken: bool = False
    """Whether another port will do; then it counts as no restart."""
    final: bool = False
    """Whether it ends an engine that has served, too."""


@dataclass(frozen=True)
class KnownFailure:
    """An error that an engine is known to print."""

    pattern: re.Pattern[str]
    description: str
    """A template for `Match.expand`; `{engine}` stands for the engine's name."""
    error_class: ErrorClass = ErrorClass.SERVER_LOST
    retryable: bool = False
    port_taken: bool = False
    final: bool = False


def known(
    pattern: str, description: str, error_class: ErrorClass = ErrorClass.SERVER_LOST, **more: bool
) -> KnownFailure:
    """Returns the known failure whose log matches `pattern` somewhere; `^` and `$` match at each line."""
    return KnownFailure(re.compile(pattern, re.MULTILINE), description, error_class, **more)


_RAISED = r"^(?:\([^)]*pid=\d+\) )?(?:ERROR [^\]]*\] )?"
"""How a line begins on which a traceback ends: warnings contain the same texts."""

FIRST = (
    known(r"Address already in use", "the server's port is in use", retryable=True, port_taken=True),
    known(
        r"error: ((?:unrecognized arguments: |argument |ambiguous option: |the following arguments ).+)$",
        r"{engine} refuses its command line: \1",
    ),
)
"""Looked for before an engine's own known failures."""

COMMON = (
    known(
        r"model type `(.+?)` but Transformers does not recognize",
        r"the environment's transformers does not know the model type '\1'",
    ),
    known(
        r"(?:CUDA|HIP|XPU) out of memory",
        "out of GPU memory",
        MEMORY,
    ),
    known(
        r"DefaultCPUAllocator: can't allocate memory|^MemoryError|Cannot allocate memory|\bbad_alloc\b",
        "out of memory on the host",
        MEMORY,
    ),
    known(
        r"(?:GatedRepoError|Access to model (\S+) is restricted)",
        "the weights are gated: ask for access on the hub",
    ),
    known(
        r"SafetensorError: (.+)$|safetensors_rust\.\w+: (.+)$",
        r"the model's weights are broken: \1",
    ),
    known(
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|RepositoryNotFoundError|couldn't connect to 'https://huggingface",
        "the model's weights are not on this machine and the hub is not asked",
    ),
    known(r"does not appear to have a file named (\S+?)[\s.]", r"the model's folder has no \1"),
    known(
        r"Bfloat16 is only supported on GPUs with compute capability of at least ([\d.]+)",
        r"this GPU has no bfloat16 (compute capability \1 is needed): set dtype to float16",
    ),
    known(
        r"NVIDIA driver on your system is too old \(found version (\d+)\)",
        r"this node's NVIDIA driver (CUDA \1) is too old for the environment's torch",
    ),
    known(
        r"CUDA driver version is insufficient for CUDA runtime version",
        "this node's NVIDIA driver is too old for the environment's CUDA",
    ),
    known(
        r"no kernel image is available for execution on the device",
        "the environment's torch was not built for this GPU",
    ),
    known(
        r"version `(GLIBC\w*_[\d.]+)' not found",
        r"this node's system is too old for the environment: \1 is missing",
    ),
    known(
        r"(lib[\w.+-]+\.so[\d.]*): cannot open shared object file",
        r"the library \1 is missing on this node",
    ),
    known(
        r"Can't load (?:the )?tokenizer for|Couldn't instantiate the backend tokenizer",
        "the model's folder has no tokenizer that can be loaded",
    ),
    known(
        r"No such file or directory: '?\"?(?:[^'\"\n]*/)?([^'\"\n/]+\.safetensors)",
        r"the model's folder has no \1",
    ),
    known(
        rf"{_RAISED}\w*Error: \[Errno (?:28|122)\] [^:\n]+: '([^'\n]+)'",
        r"the disk is full or over quota at \1",
    ),
    known(
        rf"{_RAISED}\w*Error: \[Errno (?:1|13|30)\] [^:\n]+: '([^'\n]+)'",
        r"\1 cannot be written or read on this node",
    ),
    known(
        r"HFValidationError: .*?: '(.+?)'\. Use `repo_type`|(?:model|folder|path) '?(/\S+?)'? does not exist",
        "the model's folder does not exist",
    ),
    known(
        r"No (?:CUDA|HIP) GPUs are available|Found no NVIDIA driver on your system",
        "{engine} finds no GPU here: servers.<id>.gpus says how many the job asks for",
    ),
)
"""Errors of torch, transformers and the machine, looked for after an engine's own: causes come first."""

_EXCEPTION = re.compile(
    rf"{_RAISED}((?:\w+\.)*\w*(?:Error|Exception|Interrupt)): (.+)$",
    re.MULTILINE,
)
_USAGE_ERROR = re.compile(r"^[^\s:]+: error: (.+)$", re.MULTILINE)
_PYDANTIC = re.compile(r"^ +(?:Value|Assertion) error, (.+?)(?: \[type=.*)?$", re.MULTILINE)


def classify(
    log_tail: str,
    returncode: int | None,
    *,
    engine: str,
    known_failures: Sequence[KnownFailure] = (),
    consequences: tuple[str, ...] = (),
) -> Failure:
    """Returns the failure that an engine's log and exit status show.

    `returncode` is as in subprocess (negative: a signal), None where the engine was still running; the
    last three are as in `Engine`.
    """
    for failure in (*FIRST, *known_failures, *COMMON):
        match = failure.pattern.search(log_tail)
        if match is not None:
            reason = _one_line(match.expand(failure.description.replace("{engine}", engine)))
            return Failure(reason, failure.error_class, failure.retryable, failure.port_taken, failure.final)
    if returncode is not None and returncode < 0:
        reason = f"{engine} was killed by {_signal_name(-returncode)}"
        return Failure(reason, ErrorClass.SERVER_LOST, retryable=True)
    reason = _one_line(_unknown(log_tail, returncode, engine, consequences))
    return Failure(reason, ErrorClass.SERVER_LOST, retryable=returncode != USAGE_STATUS)


def over_memory_limit(engine: str, retryable: bool) -> Failure:
    """Returns the failure of an engine that the kernel killed at its job's memory limit; no log says so."""
    reason = f"{engine} was killed at its job's memory limit: raise servers.<id>.memory_gb"
    return Failure(reason, MEMORY, retryable)


def _unknown(log_tail: str, returncode: int | None, engine: str, consequences: tuple[str, ...]) -> str:
    if returncode == USAGE_STATUS and (said := _USAGE_ERROR.findall(log_tail)):
        return f"{engine} refuses its command line: {said[-1]}"
    details = _PYDANTIC.findall(log_tail)
    exceptions = [
        f"{name.rpartition('.')[2]}: {text}"
        for name, text in _EXCEPTION.findall(log_tail)
        if not text.startswith(consequences)
    ]
    if details or exceptions:
        return f"{engine} ended: {(details or exceptions)[-1]}"
    if returncode is None:
        return f"{engine} hangs"
    return f"{engine} ended with status {returncode} and no error in its log"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    limit = MAX_REASON_CHARACTERS
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
