"""Slots: no more than so many servers of a project run at once.

Slot k is the folder `<k>/` with one numbered file per owner it has had. The highest number is the owner of
today; who finds that it released the slot, or died, makes the next number exclusively. Nothing is ever
removed, so that no two processes can take the same number.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from slurmeval.files import create_exclusively
from slurmeval.processes import STALE_S, is_alive, silence_s
from slurmeval.servers.folder import numbered, numbers
from slurmeval.state.owner import Owner
from slurmeval.state.records import Unreadable, encode, load, read, write


@dataclass(frozen=True)
class SlotOwner:
    """A slot's file, or a place in the line for one."""

    owner: Owner
    heartbeat: Path
    """The file whose mtime is the owner's heartbeat."""
    released: bool = False


class Slot:
    """A slot that this process holds."""

    def __init__(self, path: Path, content: SlotOwner) -> None:
        self._path = path
        self._content = content

    def release(self) -> None:
        """Gives the slot back."""
        if read(self._path, SlotOwner) == self._content:  # not a later run's, whose folder has this name
            write(self._path, replace(self._content, released=True))


def take_slot(slots: Path, max_at_once: int, owner: Owner, heartbeat: Path) -> Slot | None:
    """A free slot; None where there is none, or another server has waited for longer.

    `heartbeat` is the file whose mtime tells other hosts that `owner` is alive.
    """
    first = next(iter(_line(slots)), None)
    if first is not None and first.heartbeat != heartbeat:
        return None
    for number in range(1, max_at_once + 1):
        folder = slots / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        highest = max(numbers(frozenset(entry.name for entry in folder.iterdir())), default=0)
        if highest and not _is_free(numbered(folder, highest)):
            continue
        path = numbered(folder, highest + 1)
        content = SlotOwner(owner, heartbeat)
        if create_exclusively(path, json.dumps(encode(content))):
            return Slot(path, content)
    return None


def stand_in_line(slots: Path, owner: Owner, heartbeat: Path) -> Path:
    """Says that `owner` waits for a slot. The caller removes the returned file when it waits no more."""
    place = slots / "waiting" / f"{owner.host}-{owner.pid}.json"
    write(place, SlotOwner(owner, heartbeat))
    return place


def someone_waits(slots: Path) -> bool:
    """Whether a live server waits for a slot."""
    return bool(_line(slots))


def served(slots: Path) -> list[Path]:
    """Returns the heartbeat files of servers that have a slot, then of those that wait, first come first."""
    holders = []
    for folder in slots.glob("[0-9]*"):
        last = numbered(folder, max(numbers(frozenset(entry.name for entry in folder.iterdir())), default=0))
        content = read(last, SlotOwner)
        if content is not None and not _is_free(last):
            holders.append(content.heartbeat)
    return holders + [content.heartbeat for content in _line(slots)]


def _line(slots: Path) -> list[SlotOwner]:
    """Those that wait for a slot and live, in the order in which they came."""
    places = []
    for place in (slots / "waiting").glob("*.json"):
        with contextlib.suppress(OSError, Unreadable):
            came = place.stat().st_mtime_ns
            if not _is_free(place):
                places.append((came, place.name, load(place, SlotOwner)))
    return [content for _, _, content in sorted(places, key=lambda each: each[:2])]


def _is_free(path: Path) -> bool:
    """Whether the owner has released the slot (or its place in line), or died.

    An owner that died between making its file and writing into it leaves an empty one: it is free once it
    is old.
    """
    try:
        content = load(path, SlotOwner)
    except FileNotFoundError:
        return True
    except Unreadable:
        return silence_s(path) >= STALE_S
    return content.released or not is_alive(content.owner, content.heartbeat)
