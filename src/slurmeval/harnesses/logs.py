"""Finding, in a harness's log, the one line that says why it failed."""

from __future__ import annotations

import re
from pathlib import Path

from slurmeval.errors import ErrorClass, EvaluationFailed

_TAIL_BYTES = 1 << 20
_LONGEST = 300
_MOST_SIGNALS = 64
_FRAME = " │╭╰╮╯─|\t"
"""What rich and groups of exceptions draw around lines."""
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PYTHON_ERROR = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Timeout|Failure)\b"
)
_SERVER_LOST = re.compile(r"server_lost")
_REFUSED = re.compile(r"API request failed(?:!| with error message:) (.+?)\.? Retrying")
"""lm-eval's word of an answer that was an error; what Python reports after it are only consequences."""
_MESSAGE = re.compile(r"[\"']message[\"']: *[\"']([^\"']+)")
_WRAPPERS = ("RuntimeError: Evaluation failed!", "SystemExit", "KeyboardInterrupt")


def _lines(log: Path) -> list[str]:
    try:
        with log.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - _TAIL_BYTES))
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    plain = _ESCAPES.sub("", text).replace("\r", "\n")
    return [line.strip(_FRAME) for line in plain.splitlines() if line.strip(_FRAME)]


def telling_line(log: Path) -> str:
    """The line that best says what went wrong: the last answer that was an error, else the last error that
    Python reported, else the last line that speaks of an error, else the last. At most 300 characters."""
    lines = _lines(log)
    refused = [match[1] for line in lines if (match := _REFUSED.search(line))]
    errors = [line for line in lines if _PYTHON_ERROR.match(line) and not line.startswith(_WRAPPERS)]
    spoken = [line for line in lines if re.search(r"\berror\b|not found|no such", line, re.IGNORECASE)]
    best = next((found[-1] for found in (refused, errors, spoken, lines) if found), "its log is empty")
    return best if len(best) <= _LONGEST else best[: _LONGEST - 1] + "…"


def failure(harness: str, returncode: int, log: Path) -> EvaluationFailed:
    """Why a harness that did not end well failed. The gateway's own answer for a lost server is told apart
    from all that is the harness's fault."""
    for line in reversed(_lines(log)):
        if _SERVER_LOST.search(line):
            message = _MESSAGE.search(line)
            return EvaluationFailed(ErrorClass.SERVER_LOST, message[1] if message else "the server was lost")
    # What contains a harness says it as shells do
    number = -returncode if returncode < 0 else returncode - 128
    killed = 0 < number <= _MOST_SIGNALS
    how = f"was killed by signal {number}" if killed else f"ended with status {returncode}"
    return EvaluationFailed(ErrorClass.HARNESS_ERROR, f"{harness} {how}: {telling_line(log)}")
