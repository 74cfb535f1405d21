"""Search for the one line of a harness's log that says why it failed."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
_CHAINED = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_VAGUE = re.compile(r"(?:KeyError|TypeError|AttributeError|IndexError)\b")
"""Errors of a program that says elsewhere in its log, as an ERROR, what it did not find."""
_LOGGED_ERROR = re.compile(r"\bERROR\b[\s:]*(?:\[[^\]]*\]\s*)?(.+)")
_PLAIN_MISTAKE = re.compile(
    r"^jinja2\.|^yaml\.|Tasks not found|^(?:SyntaxError|IndentationError)|JSON parse error"
    r"|: error: (?:unrecognized arguments|argument |ambiguous option|the following arguments)"
)
"""Errors that no download can cure."""
_WANTS_NETWORK = re.compile(
    r"connect|network|offline|unreachable|reach |resol(?:ve|ution)|time[d -]?out|urlopen|download|fetch|proxy"
    r"|https?:|\bssl\b|\bhub\b|not found|not find|unable to find|no such file|LookupError|locate|not cached",
    re.IGNORECASE,
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
    """Returns the line that best says what went wrong, at most 300 characters long.

    It is the last answer that was an error, else the last error that Python reported with its cause, else the
    last line that speaks of an error, else the last line.
    """
    lines = _lines(log)
    refused = [match[1] for line in lines if (match := _REFUSED.search(line))]
    spoken = [line for line in lines if re.search(r"\berror\b|not found|no such", line, re.IGNORECASE)]
    reported = _reported_error(lines)
    errors = [reported] if reported else []
    best = next((found[-1] for found in (refused, errors, spoken, lines) if found), "its log is empty")
    return _shortened(best, _LONGEST)


def may_lack_network(log: Path) -> bool:
    """Returns whether a harness that failed without network may end well with it.

    False only where it reported a plain mistake, or an error of a program whose log speaks of nothing that it
    could not find.
    """
    lines = _lines(log)
    errors = _python_errors(lines)
    chain = [lines[index] for index in errors] or lines[-1:]
    if any(_PLAIN_MISTAKE.search(line) for line in chain):
        return False
    return not errors or any(_WANTS_NETWORK.search(line) for line in lines)


def _python_errors(lines: Sequence[str]) -> list[int]:
    """Returns the positions of the last error that Python reported and of its causes, in order."""
    chain: list[int] = []
    for index, line in enumerate(lines):
        leads_on = lines[index + 1 : index + 2] and lines[index + 1] in _CHAINED
        if not (leads_on or _PYTHON_ERROR.match(line)) or line.startswith(_WRAPPERS):
            continue
        led_here = chain and any(between in _CHAINED for between in lines[chain[-1] + 1 : index])
        chain = [*chain, index] if led_here else [index]
    return chain


def _reported_error(lines: Sequence[str]) -> str | None:
    """Returns the last error that Python reported, with its cause in brackets.

    The cause is the first of the errors that led to it, or what the program itself said before.
    """
    chain = [lines[index] for index in _python_errors(lines)]
    if not chain:
        return None
    last, first = chain[-1], chain[0]
    if first == last and _VAGUE.match(last):
        said = [match[1] for line in lines if (match := _LOGGED_ERROR.search(line))]
        first = said[-1] if said else last
    if first in last:
        return last
    return f"{_shortened(last, _LONGEST // 2)} (after: {_shortened(first, _LONGEST // 2 - 10)})"


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def failure(harness: str, returncode: int, log: Path) -> EvaluationFailed:
    """Returns why a harness did not end well.

    The gateway's own answer for a lost server is told apart from failures of the harness.
    """
    for line in reversed(_lines(log)):
        if _SERVER_LOST.search(line):
            message = _MESSAGE.search(line)
            return EvaluationFailed(ErrorClass.SERVER_LOST, message[1] if message else "the server was lost")
    # What contains a harness says it as shells do
    number = -returncode if returncode < 0 else returncode - 128
    killed = 0 < number <= _MOST_SIGNALS
    how = f"was killed by signal {number}" if killed else f"ended with status {returncode}"
    return EvaluationFailed(ErrorClass.HARNESS_ERROR, f"{harness} {how}: {telling_line(log)}")


def has_ended_well(harness: str, returncode: int, log: Path, results: Path) -> None:
    """Checks that a harness ended with status 0, and wrote its results last.

    Raises:
        EvaluationFailed: It did not.
    """
    if returncode != 0:
        raise failure(harness, returncode, log)
    if not results.exists():
        reason = f"{harness} ended with status 0, but wrote no {results.name}"
        raise EvaluationFailed(ErrorClass.HARNESS_ERROR, reason)
