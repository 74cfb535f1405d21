"""The names of a project's jobs: by them a run knows its own again, and tells them from those of others."""

from __future__ import annotations

import hashlib
from pathlib import Path


def job_name(results: Path, role: str) -> str:
    """`slurmeval-<8 hex digits for the project's results>-<role>`."""
    return f"slurmeval-{hashlib.sha256(str(results).encode()).hexdigest()[:8]}-{role}"
