"""An enclosure: a command of this machine sees the system's programs, what it is shown, and nothing else.

It is made of Linux namespaces, without root and without a container program: no network but a loopback of its
own, no home, no other processes, no file but those it is shown; what it may write to is named. Apptainer does
the same for a command in an image."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from slurmeval.containment import enclosed

_PROBE_S = 60.0


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
    """How to start `command` enclosed. `folder`, on the node's own disk, is for the enclosure's root and its
    /tmp; `reads` and `writes` keep their places inside, and links in them lead somewhere only where that is
    shown too. `links` are further links, by their places. With `network` it is the host's."""
    # One of its own for each: places of the last one's root would count as shown already
    folder = Path(tempfile.mkdtemp(prefix="enclosure-", dir=folder))
    for name in ("root", "temporary"):
        (folder / name).mkdir()
    order = {
        "root": str((folder / "root").resolve()),
        "temporary": str((folder / "temporary").resolve()),
        "cwd": str(cwd.absolute()),
        "reads": _both_names(reads),
        "writes": _both_names(writes),
        "links": dict(links or {}),
        "network": network,
    }
    return [sys.executable, "-I", "-S", enclosed.__file__, json.dumps(order), *command]


@functools.cache
def lacking() -> str | None:
    """Why nothing can be enclosed here, in one line; None: it can."""
    with tempfile.TemporaryDirectory(prefix="slurmeval-enclosure-") as name:
        folder = Path(name)
        try:
            tried = subprocess.run(
                argv(["/bin/sh", "-c", ":"], folder=folder, cwd=Path("/")),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                timeout=_PROBE_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    if tried.returncode == 0:
        return None
    return (tried.stderr.strip().splitlines() or [f"status {tried.returncode}"])[-1]


def _both_names(paths: Iterable[Path]) -> list[str]:
    """As they are called, and where links in that name lead: programs use either."""
    return sorted({str(name) for path in paths for name in (path.absolute(), path.resolve())})
