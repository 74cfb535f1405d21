"""Reads and writes records: frozen dataclasses as JSON objects with a format number.

A record that is missing, half-written or foreign is one answer: `read` returns None. A caller that needs the
reason calls `load`. Keys that a class does not know are ignored, and a file without a format number has
format 1, so files of earlier versions are read. A file with another format number is foreign.
A class may have OLDER_NAMES, what earlier versions called its keys and those of records in it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from slurmeval.errors import SlurmevalError
from slurmeval.files import append_json, lines, write_json

T = TypeVar("T")

FORMAT = 1
"""Format number of a record whose class has no `FORMAT` of its own."""

JsonObject = dict[str, Any]
"""A JSON object that another program wrote, or that is passed on unread."""


class Unreadable(SlurmevalError, ValueError):
    """A file is half-written, or holds something else than the expected record."""


def read(path: Path, record: type[T]) -> T | None:
    """Returns the record in `path`; None if it is missing, half-written or foreign.

    Raises OSError if the file system is away.
    """
    try:
        return load(path, record)
    except (FileNotFoundError, Unreadable):
        return None


def find(path: Path, record: type[T]) -> T | None:
    """Returns the record in `path`; None also where the file system is away."""
    try:
        return read(path, record)
    except OSError:
        return None


def load(path: Path, record: type[T]) -> T:
    """Returns the record in `path`. Raises FileNotFoundError, or Unreadable with the reason."""
    try:
        return decode(json.loads(path.read_bytes()), record)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{path}: {error}") from error


def read_lines(path: Path, record: type[T]) -> list[T]:
    """Returns the records in a file of JSON lines. Lines that are cut short or foreign are left out."""
    return list(_lines(path, record))


def _lines(path: Path, record: type[T]) -> Iterator[T]:
    try:
        for line in lines(path):
            try:
                yield decode(json.loads(line), record)
            except (ValueError, RecursionError):
                continue
    except FileNotFoundError:
        return


def write(path: Path, record: Any, mode: int = 0o644) -> None:
    """Replaces `path` by a record, atomically."""
    write_json(path, encode(record), mode)


def append(path: Path, record: Any) -> None:
    """Adds a record to a file of JSON lines."""
    append_json(path, encode(record))


def encode(record: Any) -> JsonObject:
    """Returns a record as a JSON object with its format number."""
    return {"format": _format(type(record)), **_plain(record)}


def decode(value: Any, record: type[T]) -> T:
    """Returns the record that a JSON value holds. Raises Unreadable if it holds none."""
    if not isinstance(value, dict):
        raise Unreadable("expected a JSON object")
    found = value.get("format", FORMAT)
    if found != _format(record):
        raise Unreadable(f"expected format {_format(record)}, found {found!r}")
    try:
        return msgspec.convert(_renamed(value, getattr(record, "OLDER_NAMES", {})), record, dec_hook=_path)
    except msgspec.ValidationError as error:
        what, _, where = str(error).replace("`", "").partition(" - at $.")
        raise Unreadable(f"{where}: {what[:1].lower()}{what[1:]}".removeprefix(": ")) from error


def _path(kind: type[Any], value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def _renamed(value: Any, older: Mapping[str, str]) -> Any:
    """Returns a JSON value, and those in it, with today's names of keys."""
    if not older or not isinstance(value, dict):
        return value
    return {older.get(name, name): _renamed(item, older) for name, item in value.items()}


def _format(record: type[Any]) -> int:
    number: int = getattr(record, "FORMAT", FORMAT)
    return number


def _plain(value: Any) -> Any:
    """Returns a value as JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name: _plain(item) for name, item in named}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value
