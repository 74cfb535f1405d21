"""Folders that must be shown to a contained program for its Python to run."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from slurmeval.containment.root import SYSTEM_FOLDERS
from slurmeval.errors import ErrorClass, EvaluationFailed


@dataclass(frozen=True)
class Python:
    """An interpreter as the containment shows it."""

    binary: str
    """The real file. Links that lead to it are not there inside."""
    installation: str
    packages: str
    """Its site-packages, perhaps of a virtual environment."""
    libraries: tuple[str, ...]
    """Folders of libraries that it loads from elsewhere, as Pythons of environment modules do."""

    @property
    def folders(self) -> tuple[str, ...]:
        """All folders to show."""
        return (self.installation, self.packages, *self.libraries)


@functools.cache
def inspect(interpreter: Path) -> Python:
    """Asks an interpreter for its folders.

    Raises:
        EvaluationFailed: They would show the home folder.
    """
    asked = subprocess.run(
        [interpreter, "-I", "-c", _SCRIPT],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=True,
        timeout=60,
    )
    said = json.loads(asked.stdout)
    installation, packages = (os.path.realpath(path) for path in said["folders"])
    home = os.path.realpath(Path.home())
    if installation == "/" or os.path.commonpath([installation, home]) == installation:
        raise EvaluationFailed(
            ErrorClass.HARNESS_ERROR,
            f"code execution needs a Python in a folder of its own: {installation} would show {home}",
        )
    known = (*SYSTEM_FOLDERS, installation, packages)
    libraries = {
        folder
        for folder in map(os.path.dirname, said["mapped"])
        if not any(Path(folder).is_relative_to(place) for place in known)
    }
    return Python(os.path.realpath(interpreter), installation, packages, tuple(sorted(libraries)))


def links_on_the_way(path: Path) -> dict[str, str]:
    """Returns the symbolic links between `path` and its file: target by path.

    A virtual environment's Python is one, and may lead over others to where it is installed.
    """
    found: dict[str, str] = {}
    here, steps = Path("/"), list(path.absolute().parts[1:])
    while steps:
        step = steps.pop(0)
        at = here.parent if step == ".." else here / step
        if not at.is_symlink() or str(at) in found:
            here = at
            continue
        target = at.readlink()
        found[str(at)] = str(target)
        steps = [*(target.parts[1:] if target.is_absolute() else target.parts), *steps]
        here = Path("/") if target.is_absolute() else here
    return found


_SCRIPT = """
import contextlib, json, sys, sysconfig
for name in ("bz2", "ctypes", "curses", "lzma", "readline", "sqlite3", "ssl", "zlib"):
    with contextlib.suppress(ImportError):
        __import__(name)
with open("/proc/self/maps") as table:
    fields = [line.split(maxsplit=5) for line in table]
mapped = {line[5].strip() for line in fields if len(line) == 6 and line[5].startswith("/")}
print(json.dumps({"folders": [sys.base_prefix, sysconfig.get_path("purelib")], "mapped": sorted(mapped)}))
"""
