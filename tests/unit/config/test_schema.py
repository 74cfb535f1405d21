"""Schema and reference are what the typed config says."""

from __future__ import annotations

import difflib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic.fields import FieldInfo

from slurmeval.config import schema
from slurmeval.results import reference as results

PROJECT = Path(__file__).parents[3]


FILES = [
    (path, text)
    for each in schema.ALL
    for path, text in ((each.schema, each.schema_text()), (each.reference, each.reference_text()))
]
EXAMPLES = [
    *((PROJECT / "config" / name, schema.CONFIG) for name in ("config.yaml", "demo.yaml", "one-gpu.yaml")),
    *((file, schema.SITE) for file in sorted(PROJECT.glob("profiles/**/site.yaml"))),
]


def example(value: object) -> str | None:
    return str(value.relative_to(PROJECT)) if isinstance(value, Path) else None


@pytest.mark.parametrize(("path", "wanted"), FILES, ids=lambda value: str(value)[:40].split("\n")[0])
def test_generated_file_is_current(path: Path, wanted: str) -> None:
    found = (PROJECT / path).read_text()
    diff = "\n".join(
        difflib.unified_diff(found.splitlines(), wanted.splitlines(), str(path), "the code", lineterm="")
    )
    assert found == wanted, f"{path} is not what the code says; mend it with `{schema.COMMAND}`:\n{diff}"


def test_command_writes_what_is_generated(tmp_path: Path) -> None:
    for folder in ("scripts", "docs"):
        (tmp_path / folder).mkdir()
    text = "# Results, by hand\n" + results.reference()
    (tmp_path / results.REFERENCE).write_text(text.replace("One row is", "Two rows are"))
    script = shutil.copy(PROJECT / schema.COMMAND, tmp_path / schema.COMMAND)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([script], check=True, env={**os.environ, "PATH": path})
    for generated, wanted in FILES:
        assert (tmp_path / generated).read_text() == wanted
    assert (tmp_path / results.REFERENCE).read_text() == text


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
