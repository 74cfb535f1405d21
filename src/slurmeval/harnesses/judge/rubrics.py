"""The rubric of a judge: its dimensions in order, built in, from the config, or from a file."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from slurmeval.config.judging import Judging, RubricDimension
from slurmeval.config.messages import nearest
from slurmeval.config.sources import Identifier
from slurmeval.errors import UserError

Rubric = dict[str, RubricDimension]

_FILE = TypeAdapter(dict[Identifier, RubricDimension | None])


@functools.cache
def built_in() -> Rubric:
    """Returns the dimensions that need no definition, by name."""
    text = Path(__file__).with_name("dimensions.yaml").read_text(encoding="utf-8")
    return {name: RubricDimension.model_validate(entry) for name, entry in yaml.safe_load(text).items()}


def rubric_of(judging: Judging, project: Path) -> Rubric:
    """Returns the dimensions of a judge, the primary one first; of a jury none.

    Raises:
        UserError: A dimension or the file will not do; the text begins with the key.
    """
    named: dict[str, RubricDimension | None] = {}
    if judging.rubric_file is not None:
        named |= _read(judging.rubric_file, project)
    named |= judging.rubric
    found = {}
    for name, dimension in named.items():
        if dimension is None and name not in built_in():
            raise UserError(f"judging.rubric.{name}: is not built in; {nearest(name, built_in())}")
        found[name] = dimension or built_in()[name]
        grade = found[name].right_from
        if grade is not None and grade not in found[name].meanings:
            raise UserError(f"judging.rubric.{name}.right_from: {grade} is none of its grades")
    if not found and judging.mode == "direct" and not judging.jury:
        raise UserError(f"judging.rubric: is missing; built-in dimensions are {', '.join(built_in())}")
    return found


def _read(name: str, project: Path) -> dict[str, RubricDimension | None]:
    try:
        content: Any = yaml.safe_load((project / name).read_text(encoding="utf-8"))
        return _FILE.validate_python(content)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"judging.rubric_file: {name}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"judging.rubric_file: {name}{where}: is no YAML") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(f"judging.rubric_file: {name}: {place}: {first['msg']}") from None
