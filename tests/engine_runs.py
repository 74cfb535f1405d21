"""What a server's folder has of its engine runs, for tests."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from slurmeval.servers.folder import ServerFolder
from slurmeval.state.engine_run import EngineRunRecord
from slurmeval.state.records import read_lines


def engine_runs_of(folder: ServerFolder) -> list[dict[str, Any]]:
    """Those that have ended, oldest first."""
    return [asdict(each) for each in read_lines(folder.engine_runs, EngineRunRecord)]
