"""Versions of packages that a lock pins, or that an environment has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from slurmeval.environments.locks import PIN, normalised


def pinned(lock: Path) -> dict[str, str]:
    """Returns versions by canonical name, from a lock of `name==version` lines (uv, pip freeze)."""
    found = (PIN.match(line) for line in lock.read_text(encoding="utf-8").splitlines())
    return {normalised(match["name"]): match["version"] for match in found if match}


def pinned_versions(lock: Path, names: Iterable[str]) -> dict[str, str]:
    """Returns the versions of those of `names` that the lock has."""
    versions = pinned(lock)
    return {name: versions[name] for name in names if name in versions}


def site_packages(environment: Path) -> Path | None:
    """Returns the folder of installed packages of a virtual environment."""
    return next(iter(sorted(environment.glob("lib/python3*/site-packages"))), None)


def installed_version(environment: Path, name: str) -> str | None:
    """Returns the installed version of a package, from its metadata folder; None: it is not installed."""
    folder = site_packages(environment)
    for info in sorted(folder.glob("*.dist-info")) if folder else []:
        found, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        if normalised(found) == normalised(name):
            return version
    return None


def version_tuple(version: str) -> tuple[int, ...]:
    """Returns the leading numbers of a version, to compare: "0.1.50rc1" is (0, 1, 50)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
