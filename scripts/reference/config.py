"""JSON schemas (for editors) and reference pages of config and site files, generated from their types."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from pydantic.fields import FieldInfo

from slurmeval.config.models import Config
from slurmeval.config.site import Site
from slurmeval.config.sources import Identifier, Section

COMMAND = "scripts/update-schema"


@dataclass(frozen=True)
class Generated:
    """The files that are generated from the type of a config or site file."""

    model: type[Section]
    code: str
    """The module that has the type."""
    schema: Path
    reference: Path
    introduction: str

    def schema_value(self) -> dict[str, Any]:
        """Returns the JSON schema of a whole file."""
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$comment": f"Generated from {self.code} by {COMMAND}; do not edit.",
            **self.model.model_json_schema(),
            "title": f"slurmeval {self.model.__name__.lower()}",
        }

    def schema_text(self) -> str:
        """Returns the content of the file `schema`."""
        return json.dumps(self.schema_value(), indent=2, ensure_ascii=False) + "\n"

    def reference_text(self) -> str:
        """Returns the content of the file `reference`: a table for each section."""
        title, text = self.introduction.split("\n", 1)
        generated = f"Generated from `{self.code}` by `{COMMAND}`; do not edit."
        tables = "".join(_section(path, section) for path, section in sections(self.model))
        return f"{title}\n\n{generated}\n{text}{tables}"


CONFIG = Generated(
    model=Config,
    code="src/slurmeval/config/models.py",
    schema=Path("workflow/schemas/config.schema.json"),
    reference=Path("docs/config.md"),
    introduction="""# The config

A config is one YAML file, or several: `include:` names further files with models, servers, datasets,
benchmarks and suites, and Snakemake's `--configfile a.yaml b.yaml` and `--config key=value` lay later values
over earlier ones. Ids become file names: letters, digits, `-`, `_` and single dots, and no two that differ in
case only. An unknown key, a key given twice and a value of the wrong type are refused before anything starts;
`slurmeval check FILE` does the same by itself. Times end in their unit (`_s` seconds, `_min` minutes).

Editors complete and check a file whose first line is

    # yaml-language-server: $schema=../workflow/schemas/config.schema.json
""",
)

SITE = Generated(
    model=Site,
    code="src/slurmeval/config/site.py",
    schema=Path("workflow/schemas/site.schema.json"),
    reference=Path("docs/site-reference.md"),
    introduction="""# The site file

A site file says how a cluster wants to be asked for jobs. It stands beside a Snakemake profile, which names
it (`slurmeval-site: site.yaml`); [sites.md](sites.md) says how to write one. Nothing in it alters answers:
after an edit, nothing that is finished runs again. What cannot be used is refused before anything starts,
with file and key.

Editors complete and check a file whose first line is

    # yaml-language-server: $schema=../../workflow/schemas/site.schema.json
""",
)

ALL = (CONFIG, SITE)

_NAMES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Any: "anything",
    NoneType: "null",
}
_LIMITS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}


def sections(model: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    """Yields every section of a file with its place, each once, in the order of the file."""
    return _sections(model, "", set())


def _sections(
    section: type[Section], path: str, seen: set[type[Section]]
) -> Iterator[tuple[str, type[Section]]]:
    seen.add(section)
    yield path, section
    for name, field in section.model_fields.items():
        below = f"{path}.{name}" if path else name
        for kind, suffix in ((dict, ".<id>"), (None, "")):
            inner = _inner(field.annotation, kind)
            if inner is not None and inner not in seen:
                yield from _sections(inner, below + suffix, seen)


def _inner(annotation: Any, kind: type | None) -> type[Section] | None:
    """Returns the section that `annotation` is (`kind` None), or that the mapping `annotation` holds."""
    arguments = [argument for argument in typing.get_args(annotation) if argument is not NoneType]
    if NoneType in typing.get_args(annotation) and len(arguments) == 1:
        annotation = arguments[0]
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
