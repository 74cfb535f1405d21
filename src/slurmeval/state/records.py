"""Reads and writes records: frozen dataclasses as JSON objects with a format number.

A record that is missing, half-written or foreign is one answer: `read` returns None. A caller that needs the
reason calls `load`. Keys that a class does not know are ignored, and a file without a format number has
format 1, so files of earlier versions are read. A file with another format number is foreign.
A class may have OLDER_NAMES, what earlier versions called its keys.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

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
    decoder: Decoder = _decoder(cast(Any, record))
    decoded: T = decoder(value)
    return decoded


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


Decoder = Callable[[Any], Any]


@cache
def _decoder(hint: Any) -> Decoder:
    """Returns what turns a JSON value into a value of a type. It raises Unreadable where it cannot."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return lambda value: value
    if origin in (typing.Union, types.UnionType):
        return _of_union([_decoder(argument) for argument in arguments])
    if origin is dict:
        return _of_mapping(_decoder(arguments[1]))
    if origin in (list, tuple):
        return _of_sequence(origin, arguments)
    if dataclasses.is_dataclass(hint):
        return _of_record(cast(Any, hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _of_enum(hint)
    if hint is Path:
        return lambda value: Path(_checked(value, str))
    return lambda value: _checked(value, hint)


def _checked(value: Any, kind: type[Any]) -> Any:
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise Unreadable(f"expected {kind.__name__}, found {value!r:.80}")
    return value


def _of_enum(kind: type[Enum]) -> Decoder:
    def decoder(value: Any) -> Any:
        try:
            return kind(value)
        except ValueError as error:
            raise Unreadable(str(error)) from error

    return decoder


def _of_union(choices: list[Decoder]) -> Decoder:
    def decoder(value: Any) -> Any:
        reasons = []
        for choice in choices:
            try:
                return choice(value)
            except Unreadable as error:
                reasons.append(str(error))
        raise Unreadable(reasons[0])

    return decoder


def _of_mapping(item: Decoder) -> Decoder:
    return lambda value: {key: item(each) for key, each in _checked(value, dict).items()}


def _of_sequence(kind: type[Any], arguments: tuple[Any, ...]) -> Decoder:
    of_any_length = kind is list or arguments[1:] == (...,)
    items = [_decoder(argument) for argument in arguments if argument is not ...]

    def decoder(value: Any) -> Any:
        values = _checked(value, list)
        if of_any_length:
            return kind(map(items[0], values))
        if len(values) != len(items):
            raise Unreadable(f"expected {len(items)} values, found {len(values)}")
        return kind(item(each) for item, each in zip(items, values, strict=True))

    return decoder


def _of_record(record: type[Any]) -> Decoder:
    hints = typing.get_type_hints(record)
    fields = [field for field in dataclasses.fields(record) if field.init]
    decoders = [(field.name, _decoder(hints[field.name])) for field in fields]
    missing = (dataclasses.MISSING, dataclasses.MISSING)
    required = {field.name for field in fields if (field.default, field.default_factory) == missing}
    older: Mapping[str, str] = getattr(record, "OLDER_NAMES", {})

    def decoder(value: Any) -> Any:
        given = {}
        value = {older.get(name, name): item for name, item in _checked(value, dict).items()}
        for name, decode_field in decoders:
            if name in value:
                try:
                    given[name] = decode_field(value[name])
                except Unreadable as error:
                    raise Unreadable(f"{name}: {error}") from error
            elif name in required:
                raise Unreadable(f"the key {name} is missing")
        return record(**given)

    return decoder
