"""The records of what servers and harnesses run in, written once it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class EnvironmentRecord:
    """Where a locked environment lies."""

    folder: Path
    python: Path


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """Where an image lies, and what is in it."""

    id: str
    reference: str = ""
    digest: str = ""
    check: list[str] = field(default_factory=list)
    """The command that it was tried with."""
    sif: Path
    size: int
    mtime_ns: int
    sha256: str
    architecture: str | None = None
    packages: dict[str, str] = field(default_factory=dict)
    """Versions of Python's packages."""
    programs: dict[str, str] = field(default_factory=dict)
    """Path of each program that is looked for, inside."""
    labels: dict[str, str] = field(default_factory=dict)
    apptainer: str | None = None
    """Version of Apptainer that tried it."""
    pulled_at: str | None = None
    """ISO UTC; None: the site gave the file."""
