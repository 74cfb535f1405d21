"""Files with a JSON object on each line, read one line at a time.

Anything unexpected is a bad result that names the file and the line, never a crash.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from slurmeval.files import lines
from slurmeval.harnesses.scores import bad_result

MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
"""What Python raises where a value is missing, or is not what it should be."""


class Line(NamedTuple):
    """JSON object with its place in the file."""

    number: int
    """From 1."""
    offset: int
    """In bytes."""
    content: dict[str, Any]


def objects(path: Path) -> Iterator[Line]:
    """Yields the objects of a file; empty lines are skipped.

    Raises:
        EvaluationFailed: A line is no JSON object (bad_result).
    """
    offset = 0
    with readable(path):
        for number, line in enumerate(lines(path), 1):
            if not line.isspace():
                yield Line(number, offset, parsed(line, path.name, number))
            offset += len(line)


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Returns all objects of a file.

    Raises:
        EvaluationFailed: A line is no JSON object (bad_result).
    """
    return [line.content for line in objects(path)]


def parsed(line: bytes, name: str, number: int) -> dict[str, Any]:
    """Returns the object on a line.

    orjson refuses what Python's json writes and reads: NaN and lone surrogates. These are read by Python's
    json.

    Raises:
        EvaluationFailed: The line is no JSON object (bad_result).
    """
    try:
        value = orjson.loads(line)
    except ValueError:
        value = _parsed_leniently(line, f"{name}:{number}")
    if not isinstance(value, dict):
        raise bad_result(f"{name}:{number}: expected a JSON object")
    return value


def _parsed_leniently(line: bytes, where: str) -> Any:
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise bad_result(f"{where}: not UTF-8: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        raise bad_result(f"{where}: not JSON: {error}") from error
    except RecursionError as error:
        raise bad_result(f"{where}: not JSON: nested too deeply") from error


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns the error of a file that cannot be read into a bad result."""
    try:
        yield
    except FileNotFoundError as error:
        raise bad_result(f"{path.name}: was not written") from error
    except OSError as error:
        raise bad_result(f"{path.name}: cannot be read: {error.strerror}") from error
