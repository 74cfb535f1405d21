"""What harnesses have fetched into the hub's cache by themselves, noted so that it can be carried elsewhere.

A note is a hash cache, `<HF_HOME>/slurmeval/fetched/<repository>/<commit>.json`, empty at first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from slurmeval.files import create_exclusively


def snapshots(hf_home: Path) -> set[Path]:
    """Returns the folder of each commit in the hub's cache."""
    return set((hf_home / "hub").glob("*--*/snapshots/*"))


def note(hf_home: Path, before: set[Path]) -> None:
    """Notes the snapshots that have come since there were those `before`."""
    for folder in snapshots(hf_home) - before:
        create_exclusively(note_of(hf_home, folder), "{}\n")


def note_of(hf_home: Path, snapshot: Path) -> Path:
    """Returns the file of a snapshot's note."""
    repository, commit = snapshot.parents[1].name, snapshot.name
    return hf_home / "slurmeval" / "fetched" / repository / f"{commit}.json"


def noted(hf_home: Path) -> Iterator[Path]:
    """Yields the noted snapshots that are still there."""
    for file in sorted((hf_home / "slurmeval" / "fetched").glob("*/*.json")):
        folder = hf_home / "hub" / file.parent.name / "snapshots" / file.stem
        if folder.is_dir():
            yield folder
