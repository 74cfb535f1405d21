"""Files with a JSON object on each line, read one line at a time: anything unexpected is a bad result that
names the file and the line, never a crash."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from slurmeval.files import lines
from slurmeval.harnesses.scores import bad_result


def numbered_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects with the numbers of their lines, from 1; empty lines are passed over. Raises
    EvaluationFailed (bad_result)."""
    try:
        for number, line in enumerate(lines(path), 1):
            if line.isspace():
                continue
            value = _parsed(line, f"{path.name}:{number}")
            if not isinstance(value, dict):
                raise bad_result(f"{path.name}:{number}: no object")
            yield number, value
    except FileNotFoundError as error:
        raise bad_result(f"{path.name}: was not written") from error
    except OSError as error:
        raise bad_result(f"{path.name}: cannot be read: {error.strerror}") from error


def json_lines(path: Path) -> list[dict[str, Any]]:
    """All objects of a file. Raises EvaluationFailed (bad_result)."""
    return [value for _, value in numbered_objects(path)]


def _parsed(line: bytes, where: str) -> Any:
    """The value of a line. orjson refuses what Python's json writes and reads: NaN, lone surrogates."""
    try:
        return orjson.loads(line)
    except ValueError:
        pass
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise bad_result(f"{where}: not UTF-8: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        raise bad_result(f"{where}: not JSON: {error}") from error
    except RecursionError as error:
        raise bad_result(f"{where}: not JSON: nested too deeply") from error
