"""Schema and reference are what the typed config says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic.fields import FieldInfo
from scripts.reference import config as schema

PROJECT = Path(__file__).parents[3]


EXAMPLES = [
    *((PROJECT / "config" / name, schema.CONFIG) for name in ("config.yaml", "demo.yaml", "one-gpu.yaml")),
    *((file, schema.SITE) for file in sorted(PROJECT.glob("profiles/**/site.yaml"))),
]


def example(value: object) -> str | None:
    return str(value.relative_to(PROJECT)) if isinstance(value, Path) else None


def all_keys() -> dict[str, FieldInfo]:
    return {
        f"{each.model.__name__}: {path}.{name}": field
        for each in schema.ALL
        for path, section in schema.sections(each.model)
        for name, field in section.model_fields.items()
    }


@pytest.mark.parametrize("name", sorted(all_keys()))
def test_every_key_is_explained(name: str) -> None:
    assert all_keys()[name].description


@pytest.mark.parametrize("generated", schema.ALL, ids=lambda each: each.model.__name__)
def test_schema_refuses_unknown_keys_everywhere(generated: schema.Generated) -> None:
    value = generated.schema_value()
    definitions: dict[str, Any] = value["$defs"]
    assert all(each["additionalProperties"] is False for each in (value, *definitions.values()))


@pytest.mark.parametrize(("file", "generated"), EXAMPLES, ids=example)
def test_editors_find_the_schema(file: Path, generated: schema.Generated) -> None:
    first = file.read_text().splitlines()[0]
    written = first.removeprefix("# yaml-language-server: $schema=")
    assert (file.parent / written).resolve() == (PROJECT / generated.schema).resolve()


@pytest.mark.parametrize(("file", "generated"), EXAMPLES, ids=example)
def test_schema_admits_the_examples(file: Path, generated: schema.Generated) -> None:
    jsonschema.validate(yaml.safe_load(file.read_text()), generated.schema_value())
