"""Reading the files that a run leaves behind. What a crash has damaged counts as empty."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slurmeval.files import lines, read_json


def read_record(path: Path) -> dict[str, Any] | None:
    """A JSON object; what is not one (a file of a machine that went down) counts as empty."""
    try:
        value = read_json(path)
    except ValueError:
        return {}
    return value if isinstance(value, dict) or value is None else {}


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; a last line cut off by a crash is left out."""
    try:
        for line in lines(path):
            try:
                value = json.loads(line.decode(errors="replace"))
            except ValueError:
                continue
            if isinstance(value, dict):
                yield value
    except FileNotFoundError:
        return


def time_of(value: Any) -> datetime | None:
    """A time from ISO text (without zone: UTC); None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
