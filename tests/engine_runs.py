"""What a server's folder has of its engine runs, for tests."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from slurmeval.servers.folder import ServerFolder
from slurmeval.state.engine_run import read_engine_runs


def engine_runs_of(folder: ServerFolder) -> list[dict[str, Any]]:
    """Those that have ended, oldest first."""
    return [asdict(each) for each in read_engine_runs(folder.engine_runs)]
