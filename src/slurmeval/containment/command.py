"""Containment of a harness's command: it sees the system's programs, what it is shown, and nothing else.

It has no network but a loopback of its own, no home, no other processes, and no file but those that it is
shown. This needs neither root nor a container program. Apptainer does the same for a command in an image.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slurmeval.containment import contained

_PROBE_TIMEOUT_S = 60.0


def script_argv(order: Mapping[str, Any], command: Sequence[str]) -> list[str]:
    """Returns the command line that runs `command` by an order for `contained.py`."""
    return [sys.executable, "-I", "-S", contained.__file__, json.dumps(order), *command]


def argv(
    command: Sequence[str],
    *,
    folder: Path,
    cwd: Path,
    reads: Iterable[Path] = (),
    writes: Iterable[Path] = (),
    links: Mapping[str, str] | None = None,
    network: bool = False,
) -> list[str]:
    """Returns the command line that runs `command` contained.

    Args:
        command: Program and arguments.
        folder: On the node's own disk, for the root and /tmp inside.
        cwd: The working directory.
        reads: Shown read-only at their own paths. Links in them lead somewhere only if that is shown too.
        writes: Shown at their own paths, and writable.
        links: Further symbolic links: target by path.
        network: The host's network is there.
    """
    # One of its own for each: paths of the last one's root would count as shown already
    folder = Path(tempfile.mkdtemp(prefix="containment-", dir=folder)).resolve()
    for name in ("root", "temporary"):
        (folder / name).mkdir()
    order = {
        "root": str(folder / "root"),
        "temporary": str(folder / "temporary"),
        "cwd": str(cwd.absolute()),
        "reads": _both_names(reads),
        "writes": _both_names(writes),
        "links": dict(links or {}),
        "network": network,
        "limits": None,
        "status": None,
    }
    return script_argv(order, command)


@functools.cache
def unavailable() -> str | None:
    """Returns why nothing can be contained here, in one line, or None if it can."""
    with tempfile.TemporaryDirectory(prefix="slurmeval-containment-") as name:
        folder = Path(name)
        try:
            tried = subprocess.run(
                argv(["/bin/sh", "-c", ":"], folder=folder, cwd=Path("/")),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                timeout=_PROBE_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    if tried.returncode == 0:
        return None
    return (tried.stderr.strip().splitlines() or [f"status {tried.returncode}"])[-1]


def _both_names(paths: Iterable[Path]) -> list[str]:
    """Returns the paths as they are called, and what they resolve to: programs use either."""
    return sorted({str(name) for path in paths for name in (path.absolute(), path.resolve())})
