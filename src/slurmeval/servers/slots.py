"""Slots: no more than so many servers of a project run at once.

Slot k is the folder `<k>/` with one numbered file per owner it has had. The highest number is the owner of
today; who finds that it released the slot, or died, makes the next number exclusively. Nothing is ever
removed, so that no two processes can take the same number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slurmeval.files import create_exclusively, read_json, write_json
from slurmeval.processes import is_alive
from slurmeval.servers.folder import numbered, numbers


class Slot:
    """A slot that this process holds."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self._path = path
        self._content = content

    def release(self) -> None:
        if read_json(self._path) == self._content:  # not that of a later run whose folder has this name
            write_json(self._path, {**self._content, "released": True})


def take_slot(slots: Path, max_at_once: int, owner: dict[str, Any], beat: Path) -> Slot | None:
    """A free slot, or None. `beat` is the file whose mtime tells other hosts that `owner` is alive."""
    for number in range(1, max_at_once + 1):
        folder = slots / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        highest = max(numbers(frozenset(entry.name for entry in folder.iterdir())), default=0)
        if highest and not _is_free(numbered(folder, highest)):
            continue
        path = numbered(folder, highest + 1)
        content = {"owner": owner, "beat": str(beat), "released": False}
        if create_exclusively(path, json.dumps(content)):
            return Slot(path, content)
    return None


def stand_in_line(slots: Path, owner: dict[str, Any], beat: Path) -> Path:
    """Says that `owner` waits for a slot. The caller removes the returned file when it waits no more."""
    place = slots / "waiting" / f"{owner['host']}-{owner['pid']}.json"
    write_json(place, {"owner": owner, "beat": str(beat), "released": False})
    return place


def someone_waits(slots: Path) -> bool:
    """Whether a live server waits for a slot."""
    return any(not _is_free(place) for place in (slots / "waiting").glob("*.json"))


def _is_free(path: Path) -> bool:
    """Whether the owner has released the slot (or its place in line), or died. An owner that died between
    making its file and writing into it leaves an empty one: it is free once it is old."""
    try:
        content = read_json(path)
    except ValueError:
        return not is_alive({"host": None}, path)
    return bool(content["released"]) or not is_alive(content["owner"], Path(content["beat"]))
