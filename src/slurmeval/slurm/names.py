"""Names of a project's jobs, by which a run tells its own from others."""

from __future__ import annotations

import hashlib
from pathlib import Path


def job_name(results: Path, role: str) -> str:
    """Returns `slurmeval-<8 hex digits for the project's results>-<role>`."""
    return f"slurmeval-{hashlib.sha256(str(results).encode()).hexdigest()[:8]}-{role}"
