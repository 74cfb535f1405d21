"""From config files to a checked `Config`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from slurmeval.config.checks import BenchmarkCheck, check
from slurmeval.config.merging import merge
from slurmeval.config.messages import Problem, config_error, problems_of
from slurmeval.config.models import CONFIG_VERSION, Config
from slurmeval.config.yaml_files import shown
from slurmeval.errors import ConfigError

LONGEST = 1000
"""Characters of a message."""


def load(
    files: Sequence[Path],
    overrides: Mapping[str, Any] | None = None,
    *,
    project: Path | None = None,
    check_benchmark: BenchmarkCheck | None = None,
) -> Config:
    """Reads `files`, later ones over earlier ones, and lays `overrides` (Snakemake's --config) over them.

    `project` is the folder that the config's paths are relative to (this folder by default);
    `check_benchmark` is asked what a benchmark's harness cannot do (`slurmeval.harnesses` lies above this
    package). Raises ConfigError, one line with file and key, for any input that is wrong; nothing else."""
    try:
        return _load([Path(file) for file in files], overrides or {}, project or Path.cwd(), check_benchmark)
    except ConfigError as error:
        raise ConfigError(_one_line(str(error))) from None


def _load(
    files: Sequence[Path],
    overrides: Mapping[str, Any],
    project: Path,
    check_benchmark: BenchmarkCheck | None,
) -> Config:
    if not files:
        raise ConfigError("no config file is given (--configfile FILE)")
    merged = merge(files, overrides, project)
    version = merged.values.get("version", CONFIG_VERSION)
    if version != CONFIG_VERSION or not isinstance(version, int) or isinstance(version, bool):
        # of another version the keys mean other things: nothing more is said about them
        text = f"is {shown(version)}; this program reads version {CONFIG_VERSION}"
        raise config_error([Problem(("version",), text)], merged)
    try:
        config = Config.model_validate(merged.values, strict=True)
    except ValidationError as error:
        raise config_error(problems_of(error, merged.values), merged) from None
    if problems := check(config, project, check_benchmark):
        raise config_error(problems, merged)
    return config


def _one_line(text: str) -> str:
    """What a file says may hold line ends and escape sequences; a message is for a terminal."""
    escaped = "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text[:LONGEST]
    )
    return escaped if len(text) <= LONGEST else f"{escaped}…"
