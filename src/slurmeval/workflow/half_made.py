"""What a killed run left half-made, of the files that others read as `ancient`.

Snakemake makes such a file again for a reason of its own, and then plans nothing that reads it as `ancient`
(docs/design.md): the run would end well without an evaluation. A file that is gone it makes for those that
read it."""

from __future__ import annotations

import contextlib
import os
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from pathlib import Path

RECORDS = Path(".snakemake") / "incomplete"
"""Where Snakemake notes the outputs of jobs that have begun and not ended."""


def forget_half_made(project: Path, outputs: Iterable[Path]) -> list[Path]:
    """Removes those of `outputs`, named as Snakemake's rules name them, that it has noted as begun and not
    ended, with the note. Returns what was removed."""
    removed = []
    for output in outputs:
        record = _record(project / RECORDS, str(output))
        if not record.is_file():
            continue
        with contextlib.suppress(FileNotFoundError):
            (project / output).unlink()
            removed.append(output)
        record.unlink(missing_ok=True)
    return removed


def _record(folder: Path, name: str) -> Path:
    """Snakemake's name for its note of a file; long names are folders."""
    try:
        longest = os.pathconf(folder, "PC_NAME_MAX") or 255
    except OSError:
        longest = 255
    text = urlsafe_b64encode(name.encode()).decode()
    parts = [text[first : first + longest - 1] for first in range(0, len(text), longest - 1)]
    return folder.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])
