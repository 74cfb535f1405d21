"""Makes one mapping of several files and of what the command line sets, and remembers which set what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurmeval.config.yaml_files import kind, read_yaml, require_plain, reread, shown
from slurmeval.errors import ConfigError

INCLUDABLE = ("models", "servers", "datasets", "benchmarks", "suites")
"""Sections that an included file may have, besides `version` and further includes."""

Key = tuple[str | int, ...]


@dataclass
class Merged:
    """A config's values before validation, with the name of the source of each key."""

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[Key, str] = field(default_factory=dict)
    name: str = ""
    """The name of the whole: the files that were asked for."""

    def source(self, key: Sequence[str | int]) -> str:
        """Returns the file that set `key`, or the nearest key above it."""
        for length in range(len(key), 0, -1):
            if found := self.sources.get(tuple(key[:length])):
                return found
        return self.name

    def put(self, values: Mapping[str, Any], source: str) -> None:
        """Lays `values` over what is there, mapping by mapping, as Snakemake does."""
        self._put(self.values, values, (), source)

    def _put(self, into: dict[str, Any], values: Mapping[str, Any], above: Key, source: str) -> None:
        for key, value in values.items():
            place = (*above, key)
            self.sources[place] = source
            if isinstance(value, Mapping):
                below = into.get(key)
                # always a new mapping: aliases of one file share theirs
                into[key] = dict(below) if isinstance(below, dict) else {}
                self._put(into[key], value, place, source)
            else:
                into[key] = value


def merge(files: Sequence[Path], overrides: Mapping[str, Any], project: Path) -> Merged:
    """Reads `files` with their includes, later ones over earlier ones, and `overrides` over all."""
    merged = Merged(name=", ".join(display(file, project) for file in files))
    for file in files:
        _put_file(merged, file, project)
    if overrides:
        require_plain(overrides, "--config")
        merged.put(reread(overrides), "--config")
    return merged


def display(path: Path, project: Path) -> str:
    """Returns the file's name as a person at `project` would write it."""
    resolved, root = _resolved(path), _resolved(project)
    shortest = resolved.relative_to(root) if resolved.is_relative_to(root) else path
    return str(shortest)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return path.absolute()


def _put_file(merged: Merged, file: Path, project: Path) -> None:
    name = display(file, project)
    values = read_yaml(file, name)
    merged.put({key: value for key, value in values.items() if key not in INCLUDABLE}, name)
    sections: dict[str, dict[str, str]] = {section: {} for section in INCLUDABLE}
    _put_sections(merged, values, name, sections)
    _put_includes(merged, file, values, project, sections, (_resolved(file),))


def _put_sections(
    merged: Merged, values: Mapping[str, Any], name: str, sections: dict[str, dict[str, str]]
) -> None:
    """Lays the entries of one file into the whole. `sections` has the file of each id in the include tree."""
    for section in INCLUDABLE:
        if section not in values:
            continue
        entries = values[section]
        if not isinstance(entries, Mapping):
            raise ConfigError(f"{name}: {section}: is {kind(entries)}; expected a mapping (id: entry)")
        for identifier in entries:
            if other := sections[section].get(identifier):
                raise ConfigError(
                    f"{name}: {section}.{identifier}: two entries with one id; {other} has it too"
                )
            sections[section][identifier] = name
        merged.put({section: entries}, name)


def _put_includes(
    merged: Merged,
    file: Path,
    values: Mapping[str, Any],
    project: Path,
    sections: dict[str, dict[str, str]],
    above: tuple[Path, ...],
) -> None:
    name = display(file, project)
    for written in _includes(values, name):
        included = file.parent / Path(written).expanduser()
        called = display(included, project)
        if _resolved(included) in above:
            raise ConfigError(f"{name}: include: {called} includes itself")
        if not included.exists():
            raise ConfigError(f"{name}: include: {shown(written)}: no such file (looked for {called})")
        its_values = read_yaml(included, called)
        _require_includable(its_values, called)
        _put_sections(merged, its_values, called, sections)
        _put_includes(merged, included, its_values, project, sections, (*above, _resolved(included)))


def _includes(values: Mapping[str, Any], name: str) -> list[str]:
    includes = values.get("include", [])
    if not isinstance(includes, list) or not all(isinstance(entry, str) for entry in includes):
        raise ConfigError(f"{name}: include: expected a list of files")
    return includes


def _require_includable(values: Mapping[str, Any], name: str) -> None:
    from slurmeval.config.models import CONFIG_VERSION

    allowed = (*INCLUDABLE, "include", "version")
    for key in values:
        if key not in allowed:
            raise ConfigError(f"{name}: {key}: not allowed in an included file, only {', '.join(allowed)}")
    if values.get("version", CONFIG_VERSION) != CONFIG_VERSION:
        raise ConfigError(
            f"{name}: version: is {shown(values['version'])}; this program reads version {CONFIG_VERSION}"
        )
