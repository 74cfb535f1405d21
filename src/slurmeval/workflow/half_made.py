"""Half-made files that a killed run has left, of those that others read as `ancient`.

Snakemake would make such a file again by force, and then plan nothing that reads it as `ancient`
(docs/design.md): the run would end well without an evaluation. A missing file it makes for its readers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from slurmeval.scheduling.snakemake_compat import incomplete_record


def forget_half_made(project: Path, outputs: Iterable[Path]) -> list[Path]:
    """Removes those of `outputs` that Snakemake has noted as begun and not ended, and its notes.

    `outputs` are named as in the rules. Returns the files that were removed.
    """
    removed = []
    for output in outputs:
        record = incomplete_record(project, str(output))
        if not record.is_file():
            continue
        with contextlib.suppress(FileNotFoundError):
            (project / output).unlink()
            removed.append(output)
        record.unlink(missing_ok=True)
    return removed
