"""Reads config files into a checked `Config`, and a site file into a checked `Site`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from slurmeval.config.checks import BenchmarkCheck, ConfigCheck, PairCheck, check
from slurmeval.config.merging import Merged, display, merge
from slurmeval.config.messages import Problem, config_error, problems_of
from slurmeval.config.models import CONFIG_VERSION, Config
from slurmeval.config.policy import POLICY_VERSION, GatePolicy, contradictions
from slurmeval.config.site import SITE_VERSION, Site
from slurmeval.config.sources import Section
from slurmeval.config.study import STUDY_VERSION, HumanStudy, study_contradictions
from slurmeval.config.yaml_files import read_yaml, shown
from slurmeval.errors import ConfigError

LONGEST = 1000
"""Characters of a message."""

AnySection = TypeVar("AnySection", bound=Section)


def load(
    files: Sequence[Path],
    overrides: Mapping[str, Any] | None = None,
    *,
    project: Path | None = None,
    check_benchmark: BenchmarkCheck | None = None,
    check_pair: PairCheck | None = None,
    check_config: ConfigCheck | None = None,
) -> Config:
    """Reads `files`, later ones over earlier ones, and lays `overrides` (Snakemake's --config) over them.

    `project` is the folder that the config's paths are relative to (this folder by default);
    `check_benchmark` is asked what a benchmark's harness cannot do, `check_pair` why it cannot be run on a
    model, `check_config` what of its task files and data will not do (`slurmeval.harnesses` lies above this
    package). Raises ConfigError, one line with file and key, for any input that is wrong; nothing else.
    """
    if not files:
        raise ConfigError("no config file is given (--configfile FILE)")
    try:
        merged = merge([Path(file) for file in files], overrides or {}, project or Path.cwd())
        config = _validated(merged, Config, CONFIG_VERSION)
        if problems := check(config, project or Path.cwd(), check_benchmark, check_pair, check_config):
            raise config_error(problems, merged)
        return config
    except ConfigError as error:
        raise ConfigError(_one_line(str(error))) from None


def load_site(file: Path, *, project: Path | None = None) -> Site:
    """Reads a cluster's site file. Raises ConfigError, one line with file and key, for any wrong input."""
    return _single(file, project, Site, SITE_VERSION)


def load_policy(file: Path, *, project: Path | None = None) -> GatePolicy:
    """Reads a gate's policy file. Raises ConfigError, one line with file and key, for any wrong input."""
    return _single(file, project, GatePolicy, POLICY_VERSION, contradictions)


def load_study(file: Path, *, project: Path | None = None) -> HumanStudy:
    """Reads a study's file. Raises ConfigError, one line with file and key, for any wrong input."""
    return _single(file, project, HumanStudy, STUDY_VERSION, study_contradictions)


def _single(
    file: Path,
    project: Path | None,
    model: type[AnySection],
    version: int,
    contradicting: Callable[[AnySection], Iterable[tuple[tuple[str | int, ...], str]]] = lambda _: (),
) -> AnySection:
    """Reads a file that is all there is of its kind. `contradicting` gives keys that cannot be meant."""
    try:
        name = display(Path(file), project or Path.cwd())
        merged = Merged(name=name)
        merged.put(read_yaml(Path(file), name), name)
        found = _validated(merged, model, version)
        if problems := [Problem(key, text) for key, text in contradicting(found)]:
            raise config_error(problems, merged)
        return found
    except ConfigError as error:
        raise ConfigError(_one_line(str(error))) from None


def _validated(merged: Merged, model: type[AnySection], wanted: int) -> AnySection:
    version = merged.values.get("version", wanted)
    if version != wanted or not isinstance(version, int) or isinstance(version, bool):
        # of another version the keys mean other things: nothing more is said about them
        text = f"is {shown(version)}; this program reads version {wanted}"
        raise config_error([Problem(("version",), text)], merged)
    try:
        return model.model_validate(merged.values, strict=True)
    except ValidationError as error:
        raise config_error(problems_of(error, merged.values, model), merged) from None


def _one_line(text: str) -> str:
    """Returns a text of a file as one line for a terminal, without escape sequences."""
    escaped = "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text[:LONGEST]
    )
    return escaped if len(text) <= LONGEST else f"{escaped}…"
