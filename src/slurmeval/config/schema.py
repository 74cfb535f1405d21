"""The config's JSON schema (for editors) and reference page, generated from the typed config."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any

from pydantic.fields import FieldInfo

from slurmeval.config.models import Config, Identifier, Section
from slurmeval.files import write_atomically

SCHEMA = Path("workflow/schemas/config.schema.json")
REFERENCE = Path("docs/config.md")
COMMAND = "scripts/update-schema"

INTRODUCTION = f"""# The config

Generated from `src/slurmeval/config/models.py` by `{COMMAND}`; do not edit.

A config is one YAML file, or several: `include:` names further files with models, servers, datasets,
benchmarks and suites, and Snakemake's `--configfile a.yaml b.yaml` and `--config key=value` lay later values
over earlier ones. Ids become file names: letters, digits, `-`, `_` and single dots, and no two that differ in
case only. An unknown key, a key given twice and a value of the wrong type are refused before anything starts;
`slurmeval check FILE` does the same by itself. Times end in their unit (`_s` seconds, `_min` minutes).

Editors complete and check a file whose first line is

    # yaml-language-server: $schema=../workflow/schemas/config.schema.json
"""

_NAMES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Any: "anything",
    NoneType: "null",
}
_LIMITS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}


def config_schema() -> dict[str, Any]:
    """The JSON schema of a whole config file."""
    schema = Config.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"Generated from src/slurmeval/config/models.py by {COMMAND}; do not edit.",
        **schema,
        "title": "slurmeval config",
    }


def schema_text() -> str:
    """What SCHEMA holds."""
    return json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"


def reference_text() -> str:
    """What REFERENCE holds: a table for each section of the config."""
    return INTRODUCTION + "".join(_section(path, section) for path, section in _sections(Config, "", set()))


def update(project: Path) -> None:
    """Writes both files."""
    write_atomically(project / SCHEMA, schema_text())
    write_atomically(project / REFERENCE, reference_text())


def _sections(
    section: type[Section], path: str, seen: set[type[Section]]
) -> Iterator[tuple[str, type[Section]]]:
    """Every section with its place in the file, each once, in the order of the file."""
    seen.add(section)
    yield path, section
    for name, field in section.model_fields.items():
        below = f"{path}.{name}" if path else name
        for kind, suffix in ((dict, ".<id>"), (None, "")):
            inner = _inner(field.annotation, kind)
            if inner is not None and inner not in seen:
                yield from _sections(inner, below + suffix, seen)


def _inner(annotation: Any, kind: type | None) -> type[Section] | None:
    """The section that `annotation` is (`kind` None), or that the mapping `annotation` holds."""
    if kind is dict:
        if typing.get_origin(annotation) is not dict:
            return None
        annotation = typing.get_args(annotation)[-1]
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _section(path: str, section: type[Section]) -> str:
    title = f"`{path}`" if path else "The file"
    rows = [_row(name, field) for name, field in section.model_fields.items()]
    return (
        f"\n## {title}\n\n{' '.join((inspect.getdoc(section) or '').split())}\n\n"
        "| key | value | default | |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def _row(name: str, field: FieldInfo) -> str:
    description = " ".join((field.description or "").split())
    limits = _limits(field.metadata)
    # pydantic takes the outermost Annotated apart
    is_id = field.metadata == list(typing.get_args(Identifier)[1:])
    value = ("id" if is_id else _in_words(field.annotation)) + (f", {limits}" if limits else "")
    cells = (f"`{name}`", value, _default(field), description)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*required*"
    if isinstance(field.default, Section):
        return "see below"
    return f"`{json.dumps(field.default, ensure_ascii=False)}`"


def _limits(metadata: list[Any]) -> str:
    return ", ".join(
        text.format(getattr(limit, name))
        for limit in metadata
        for name, text in _LIMITS.items()
        if getattr(limit, name, None) is not None
    )


def _in_words(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation == Identifier:
        return "id"
    if annotation in _NAMES:
        return _NAMES[annotation]
    if inspect.isclass(annotation) and issubclass(annotation, Section):
        return "mapping, see below"
    if origin is typing.Annotated:
        limits = _limits([*arguments[1:], *(m for a in arguments[1:] for m in getattr(a, "metadata", []))])
        return _in_words(arguments[0]) + (f", {limits}" if limits else "")
    if origin is typing.Literal:
        return " or ".join(f"`{json.dumps(value)}`".replace('"', "") for value in arguments)
    if origin is list:
        return f"list of {_plural(_in_words(arguments[0]))}"
    if origin is dict:
        return (
            f"mapping from {_in_words(arguments[0])} to {_in_words(arguments[1]).removesuffix(', see below')}"
        )
    words = [_in_words(argument) for argument in arguments]
    return ", ".join(words[:-1]) + f" or {words[-1]}"


def _plural(words: str) -> str:
    return f"{words}s" if words in ("id", "text") else words
