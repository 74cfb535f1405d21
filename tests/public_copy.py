"""A script that runs without site-packages, where users who may not read this checkout can start it."""

from __future__ import annotations

import shutil
from pathlib import Path

from slurmeval import parent_death
from slurmeval.containment import namespaces, root, seccomp


def public_copy(script: str, folder: Path) -> Path:
    """`script`, a file of a folder of slurmeval, with what it imports. `folder` must be open to all."""
    source = Path(script)
    package = Path(parent_death.__file__).parent
    for file in (source, *(Path(module.__file__) for module in (namespaces, parent_death, root, seccomp))):
        place = folder / "slurmeval" / file.parent.relative_to(package)
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place / file.name)
    return folder / "slurmeval" / source.parent.name / source.name
