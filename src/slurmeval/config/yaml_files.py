"""Reading YAML strictly: no key twice, keys are text, values are what JSON has too."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from slurmeval.errors import ConfigError

MAX_BYTES = 16 * 2**20
"""A larger file is no config."""


class _StrictLoader(yaml.CSafeLoader):
    """YAML 1.1's safe subset without what surprises: repeated keys, dates, and `1e-3` being text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        if isinstance(node, yaml.MappingNode):
            self._refuse_repeated_keys(node)
        return super().construct_mapping(node, deep=deep)

    def _refuse_repeated_keys(self, node: yaml.MappingNode) -> None:
        first: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                continue
            line = key_node.start_mark.line + 1
            if key_node.value in first:
                raise yaml.constructor.ConstructorError(
                    problem=f"two entries with one id: {shown(key_node.value)} stands in line "
                    f"{first[key_node.value]} and again in line {line}"
                    + ("; put all of them under the first" if key_node.start_mark.column == 0 else ""),
                    problem_mark=key_node.start_mark,
                )
            first[key_node.value] = line


_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def shown(value: object, longest: int = 60) -> str:
    """Returns a value for a message of one line: no control characters, not too long."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def read_yaml(path: Path, name: str) -> dict[str, Any]:
    """Returns the mapping in the YAML file `path`, called `name` in messages. Raises ConfigError."""
    text = _read_text(path, name)
    try:
        value = yaml.load(text, _StrictLoader)  # a safe loader
        require_plain(value, name)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ConfigError(f"{name}{place}: {_in_words(error, text)}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: is no YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"{name}: is nested too deeply, or an alias contains itself") from error
    except (ValueError, OverflowError, TypeError, AttributeError, LookupError) as error:
        # PyYAML's constructors let these through, for `!!int x` or a number of 5,000 digits
        raise ConfigError(f"{name}: a value cannot be read: {shown(str(error))}") from error
    if value is None:
        raise ConfigError(f"{name}: is empty; expected a mapping (key: value)")
    if not isinstance(value, dict):
        raise ConfigError(f"{name}: is {kind(value)}; expected a mapping (key: value)")
    return value


def _in_words(error: yaml.MarkedYAMLError, text: str) -> str:
    """Returns what libyaml found; tabs, which it calls characters that cannot start any token, by name."""
    mark = error.problem_mark or error.context_mark
    before = text.splitlines()[mark.line][: mark.column + 1] if mark and mark.line < text.count("\n") else ""
    if "\t" in before:
        return "a tab; YAML is indented with spaces"
    if before.endswith("{{"):
        return "text with {{ }} goes in quotes"
    return " ".join((error.problem or error.context or "cannot be read").split())


def _read_text(path: Path, name: str) -> str:
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{name}: is no file")
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{name}: is larger than {MAX_BYTES // 2**20} MiB")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(f"{name}: no such file") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{name}:{line}: is not UTF-8 (byte {error.start + 1})") from error


def kind(value: object) -> str:
    """Returns what a YAML value is, in words."""
    match value:
        case None:
            return "empty"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case Mapping():
            return "a mapping"
    return f"a YAML {type(value).__name__}"


def require_plain(value: object, name: str, place: str = "") -> None:
    """Raises ConfigError unless `value` is what JSON can hold: keys are text, numbers finite."""
    if isinstance(value, Mapping | list):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            if isinstance(value, Mapping):
                _require_text_key(key, name, place)
            require_plain(item, name, f"{place}.{key}" if place else str(key))
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name}: {place}: {value} is not a finite number")
    elif isinstance(value, str):
        _require_clean_text(value, f"{name}: {place}")
    elif value is not None and not isinstance(value, bool | int | float):
        raise ConfigError(f"{name}: {place}: {kind(value)} is not allowed here")


def reread(value: Any) -> Any:
    """Returns a plain value whose texts are read as YAML's: `"10"` becomes 10, `"true"` true.

    Snakemake takes all that stands inside a mapping of its --config for text.
    """
    if isinstance(value, Mapping):
        return {key: reread(item) for key, item in value.items()}
    if isinstance(value, list):
        return [reread(item) for item in value]
    if not isinstance(value, str):
        return value
    try:
        scalar = yaml.load(value, _StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return value
    return scalar if isinstance(scalar, bool | int | float) else value


def _require_text_key(key: object, name: str, place: str) -> None:
    where = f"{name}: {place}" if place else name
    if not isinstance(key, str):
        raise ConfigError(f"{where}: the key {shown(key)} is not text; put it in quotes")
    _require_clean_text(key, where)


def _require_clean_text(text: str, where: str) -> None:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigError(f"{where}: {shown(text)} holds a character that no file can hold")
