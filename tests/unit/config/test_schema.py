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
from slurmeval.config.models import Config, Section
from slurmeval.results import schema as results

PROJECT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("path", "wanted"), [(schema.SCHEMA, schema.schema_text()), (schema.REFERENCE, schema.reference_text())]
)
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
    assert (tmp_path / schema.SCHEMA).read_text() == schema.schema_text()
    assert (tmp_path / schema.REFERENCE).read_text() == schema.reference_text()
    assert (tmp_path / results.REFERENCE).read_text() == text


def all_sections(section: type[Section] = Config) -> dict[str, FieldInfo]:
    fields = {}
    for path, each in schema._sections(section, "", set()):
        fields |= {f"{path}.{name}": field for name, field in each.model_fields.items()}
    return fields


@pytest.mark.parametrize("name", sorted(all_sections()))
def test_every_key_is_explained(name: str) -> None:
    assert all_sections()[name].description


def test_schema_refuses_unknown_keys_everywhere() -> None:
    definitions: dict[str, Any] = schema.config_schema()["$defs"]
    assert all(each["additionalProperties"] is False for each in definitions.values())


@pytest.mark.parametrize("name", ["config.yaml", "demo.yaml"])
def test_editors_find_the_schema(name: str) -> None:
    first = (PROJECT / "config" / name).read_text().splitlines()[0]
    written = first.removeprefix("# yaml-language-server: $schema=")
    assert (PROJECT / "config" / written).resolve() == (PROJECT / schema.SCHEMA).resolve()


@pytest.mark.parametrize("name", ["config.yaml", "demo.yaml"])
def test_schema_admits_the_configs(name: str) -> None:
    jsonschema.validate(yaml.safe_load((PROJECT / "config" / name).read_text()), schema.config_schema())
