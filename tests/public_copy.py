"""A script that runs without site-packages, where users who may not read this checkout can start it."""

from __future__ import annotations

import shutil
from pathlib import Path

from slurmeval.containment import namespaces


def public_copy(script: str, folder: Path) -> Path:
    """`script`, a file of a folder of slurmeval, with what it imports. `folder` must be open to all."""
    source = Path(script)
    for file in (source, Path(namespaces.__file__)):
        place = folder / "slurmeval" / file.parent.name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place / file.name)
    return folder / "slurmeval" / source.parent.name / source.name
