"""Errors of a config in one line: file, key, what was given, what is allowed."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from slurmeval.config.merging import Key, Merged
from slurmeval.config.models import Config
from slurmeval.config.sources import Section
from slurmeval.config.yaml_files import kind, shown
from slurmeval.errors import ConfigError

ID_RULE = "at most 100 letters, digits, '-', '_' and single dots, beginning with a letter or digit"
MAX_NAMED = 12


@dataclass(frozen=True)
class Problem:
    """An error in the value at `key`."""

    key: Key
    text: str


def config_error(problems: Sequence[Problem], merged: Merged) -> ConfigError:
    """Returns the first problem in full and the others by their keys, in one line."""
    first, *others = problems
    line = f"{merged.source(first.key)}: {dotted(first.key)}: {first.text}"
    if others:
        names = [dotted(problem.key) for problem in others]
        further = [*names[:5], "…"] if len(names) > 5 else names
        line += f" (and {len(others)} more: {', '.join(further)})"
    return ConfigError(line)


def dotted(key: Iterable[str | int]) -> str:
    """Returns a key as text, such as `models.tiny.dtype`."""
    return ".".join(str(part) for part in key)


def nearest(given: str, allowed: Iterable[str]) -> str:
    """Returns `did you mean 'dtype'?`, or what is allowed if nothing is near."""
    import difflib  # only when something is wrong

    allowed = list(allowed)
    if close := difflib.get_close_matches(given, allowed, n=1, cutoff=0.6):
        return f"did you mean '{close[0]}'?"
    more = ", …" if len(allowed) > MAX_NAMED else ""
    return f"allowed: {', '.join(allowed[:MAX_NAMED]) or 'none'}{more}"


def problems_of(
    error: ValidationError, values: Mapping[str, Any], model: type[Section] = Config
) -> list[Problem]:
    """Returns pydantic's findings about a file that should be a `model`, in plain words, one per key."""
    found: dict[Key, Problem] = {}
    details = error.errors(include_url=False)
    # A key that is missing where another is unknown is most often that one, misspelt
    misspelt = {detail["loc"][:-1] for detail in details if detail["type"] == "extra_forbidden"}
    for detail in sorted(
        details, key=lambda each: each["type"] == "missing" and each["loc"][:-1] in misspelt
    ):
        key = _key_in_data(detail, values)
        found.setdefault(key, Problem(key, _in_words(detail, key, model)))
    return list(found.values())


def _key_in_data(detail: ErrorDetails, values: Mapping[str, Any]) -> Key:
    """Returns the place in the file, without pydantic's '[key]' and the member of a union that it tried."""
    place = detail["loc"]
    if detail["type"] == "missing":
        return place
    value: Any = values
    for index, part in enumerate(place):
        inside = (isinstance(value, Mapping) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if not inside:
            return place[:index]
        value = value[part]
    return place


def _in_words(detail: ErrorDetails, key: Key, model: type[Section]) -> str:
    given, context = detail["input"], detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return f"unknown key; {nearest(str(key[-1]), _fields_at(key[:-1], model))}"
        case "missing":
            return "is missing" + (
                f"; write version: {_allowed(key, model)[0]}" if key == ("version",) else ""
            )
        case "literal_error":
            return _not_allowed(given, key, model)
        case "string_pattern_mismatch":
            return f"{shown(given)}: {_pattern_in_words(detail['loc'], context['pattern'])}"
        case "string_too_short":
            return "is empty; expected text"  # no text has to be longer than a character
        case "string_too_long":
            return f"{shown(given)} is longer than {context['max_length']} characters"
        case "greater_than_equal":
            return f"{shown(given)} is too small; expected at least {context['ge']:g}"
        case "greater_than":
            return f"{shown(given)} is too small; expected more than {context['gt']:g}"
        case "less_than_equal":
            return f"{shown(given)} is too large; expected at most {context['le']:g}"
        case "too_long":
            return f"is too long; expected at most {context['max_length']} entries"
        case "too_short":
            return _too_short(given, context["min_length"])
        case "value_error":
            text = str(context["error"])
            return f"{shown(given)}: {text}" if isinstance(given, str) else text
    return f"{_given(given)}; expected {_wanted(detail, key)}"


def _too_short(given: object, least: int) -> str:
    entries = "entry" if least == 1 else "entries"
    return f"is {'too short' if given else 'empty'}; expected at least {least} {entries}"


def _given(value: object) -> str:
    if value is None or isinstance(value, list | Mapping):
        return f"is {kind(value)}"
    if isinstance(value, bool):
        return f"is {str(value).lower()}"
    return f"{shown(value)} is {kind(value)}"


_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text (in quotes, if it looks like something else)",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "list_type": "a list",
}


def _wanted(detail: ErrorDetails, key: Key) -> str:
    if detail["loc"][: len(key)] == key and len(detail["loc"]) > len(key):
        return "text, a number, true or false"  # the only union that the config has
    return _WANTED.get(detail["type"]) or detail["msg"][:1].lower() + detail["msg"][1:]


def _not_allowed(given: object, key: Key, model: type[Section]) -> str:
    allowed = _allowed(key, model)
    if key == ("version",):
        return f"is {shown(given)}; this program reads version {allowed[0]}"
    near = nearest(str(given), allowed)
    all_of_them = len(allowed) <= MAX_NAMED and not near.startswith("allowed")
    return f"{shown(given)} is not allowed; {near}" + (
        f" (allowed: {', '.join(allowed)})" if all_of_them else ""
    )


def _allowed(key: Key, model: type[Section]) -> list[str]:
    return [str(value) for value in typing.get_args(_annotation_at(key, model))]


def _pattern_in_words(place: Key, pattern: str) -> str:
    if "==" in pattern:
        return "expected a package with its version, as name==1.2.3"
    if "(/[" in pattern:
        return "expected a repository, as owner/name"
    if place[-1] == "task":
        return "a task's name has letters, digits, '.', '_' and '-' only"
    return f"not an id; {ID_RULE}"


def _fields_at(key: Key, model: type[Section]) -> list[str]:
    """Returns the keys that the mapping at `key` may have."""
    annotation = _annotation_at(key, model)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return list(annotation.model_fields)
    return []


def _annotation_at(key: Key, model: type[Section]) -> Any:
    """Returns the type of the value at `key`, without Annotated and None."""
    annotation: Any = model
    for part in key:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(str(part))
            annotation = _bare(field.annotation) if field else None
        else:
            annotation = _bare(([None, *typing.get_args(annotation)])[-1])
    return annotation


def _bare(annotation: Any) -> Any:
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    members = typing.get_args(annotation)
    if type(None) in members:
        return _bare(next(member for member in members if member is not type(None)))
    return annotation
