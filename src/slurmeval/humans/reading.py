"""Raters' files, read, checked against the key and merged. Nothing is left out without being counted."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurmeval.config.study import CHOICES, CONFIDENCE, PREFERENCE, SCALE
from slurmeval.errors import UserError
from slurmeval.humans.batch import Batch, PlacedItem, read_key
from slurmeval.humans.formats import Given, RaterFile, read_file

KEY = "key.json"


@dataclass(frozen=True)
class RatedItem:
    """What a rater said of an item."""

    rater: str
    item: PlacedItem
    position: int
    """Among the rater's items, from 0."""
    values: dict[str, float]
    """Grades by dimension; a preference is 1 for the unit's first model, 0 for the second, 0.5 for a tie."""
    flags: list[str]
    comment: str
    time_s: float | None
    skipped: bool
    """Whether the rater says that it cannot be rated."""


@dataclass(frozen=True)
class MergedRatings:
    """All that raters said, and what is missing or odd."""

    batch: Batch
    items: list[RatedItem]
    remarks: list[str] = field(default_factory=list)

    def of(self, rater: str) -> list[RatedItem]:
        """Returns a rater's items in the order of the rater's file."""
        return [each for each in self.items if each.rater == rater]


def find_key(files: Sequence[Path], studies: Path) -> tuple[Path, list[RaterFile]]:
    """Returns the key of raters' files, by the batch that they name, and the files.

    Raises:
        UserError: A file cannot be read, they are of several batches, or there is no such key.
    """
    read = [each for file in files for each in read_file(file)]
    batches = {each.batch for each in read if each.batch is not None}
    if len(batches) > 1:
        first = {each.batch: each.file.name for each in reversed(read)}
        raise UserError(f"the files are of several batches: {', '.join(first.values())}")
    keys = sorted(studies.glob(f"*/{KEY}"))
    for key in keys:
        if (not batches or read_key(key).id in batches) and (batches or len(keys) == 1):
            return key, read
    named = ", ".join(str(key.parent) for key in keys) or "none"
    raise UserError(f"{read[0].file}: {studies} has no key of its batch; there are: {named}; see --key")


def merge(key: Path, files: Sequence[RaterFile]) -> MergedRatings:
    """Returns what is in raters' files.

    Raises:
        UserError: The key was edited, a file is not of it, or a rating is none that was asked for.
    """
    batch = read_key(key)
    remarks: list[str] = []
    items: list[RatedItem] = []
    for file in files:
        _check_file(batch, file)
    for rater in batch.raters:
        theirs = [file for file in files if file.rater == rater]
        if not theirs:
            remarks.append(f"{rater}: no file")
            continue
        given = _united(rater, theirs, remarks)
        found = list(_rated(batch, rater, given))
        remarks += _missing(batch, rater, found)
        items += found
    return MergedRatings(batch, items, remarks)


def _check_file(batch: Batch, file: RaterFile) -> None:
    name = file.file
    if file.batch is not None and file.batch != batch.id:
        raise UserError(f"{name}: is of another batch ({file.batch}) than the key ({batch.id})")
    if file.key_sha256 is not None and file.key_sha256 != batch.sha256:
        raise UserError(f"{name}: was made with another key than this one: the key was made anew or edited")
    if file.rater not in batch.raters:
        raise UserError(f"{name}: unknown rater {file.rater!r}; the study has: {', '.join(batch.raters)}")
    placed = {item.id: item for item in batch.raters[file.rater]}
    seen: set[str] = set()
    for given in file.ratings:
        where = f"{name}: item {given.item}"
        if given.item not in placed:
            raise UserError(f"{where}: is none that {file.rater} was given")
        if given.item in seen:
            raise UserError(f"{where}: is there twice")
        seen.add(given.item)
        if given.sha256 is not None and given.sha256 != placed[given.item].sha256:
            raise UserError(f"{where}: was rated with other texts than those drawn")
        _check_values(batch, given, where)


def _check_values(batch: Batch, given: Given, where: str) -> None:
    study = batch.declared
    for name, value in given.values.items():
        if name not in study.names:
            raise UserError(f"{where}: {name!r} was not asked for; expected {', '.join(study.names)}")
        allowed: tuple[Any, ...] = CHOICES if name == PREFERENCE else SCALE
        if type(value) not in (int, str) or value not in allowed:  # 4.0 and true are in SCALE too
            raise UserError(
                f"{where}: {name} is {value!r:.40}; expected one of {', '.join(map(str, allowed))}"
            )
    if unknown := [flag for flag in given.flags if flag not in study.flags]:
        raise UserError(f"{where}: unknown flag {unknown[0]!r}; the study has: {', '.join(study.flags)}")


def _united(rater: str, files: Sequence[RaterFile], remarks: list[str]) -> dict[str, Given]:
    """Returns a rater's ratings by item. Of an item that several files have, the latest counts."""
    found: dict[str, Given] = {}
    changed = 0
    for file in sorted(files, key=lambda file: file.saved_at or ""):
        for given in file.ratings:
            before = found.get(given.item)
            if before is not None and before.said != given.said:
                changed += 1
                if (before.at or "") > (given.at or ""):
                    continue
            found[given.item] = given
    if len(files) > 1:
        names = ", ".join(file.file.name for file in files)
        told = f"{changed} items are rated otherwise in them, the latest counts" if changed else "they agree"
        remarks.append(f"{rater}: {len(files)} files ({names}); {told}")
    return found


def _rated(batch: Batch, rater: str, given: Mapping[str, Given]) -> Iterable[RatedItem]:
    for position, item in enumerate(batch.raters[rater]):
        said = given.get(item.id)
        if said is None or not (said.values or said.flags or said.comment or said.skipped):
            continue
        values = {name: _number(value, item.swapped) for name, value in said.values.items()}
        if said.skipped:
            values = {}
        yield RatedItem(rater, item, position, values, said.flags, said.comment, said.time_s, said.skipped)


def _number(value: int | str, swapped: bool) -> float:
    """Returns a grade, or how far a preference is for the unit's first model."""
    if isinstance(value, int):
        return float(value)
    if value == "tie":
        return 0.5
    return float((value == "A") != swapped)


def _missing(batch: Batch, rater: str, found: Sequence[RatedItem]) -> Iterable[str]:
    """Yields what a rater left out."""
    asked = [name for name in batch.declared.names if name != CONFIDENCE]
    count = len(batch.raters[rater])
    if len(found) < count:
        yield f"{rater}: {count - len(found)} of {count} items are not rated"
    half = [each for each in found if not each.skipped and any(name not in each.values for name in asked)]
    if half:
        yield f"{rater}: {len(half)} items are rated in part; what is there counts"
    if skipped := sum(each.skipped for each in found):
        yield f"{rater}: {skipped} items could not be rated, as the rater says"


def first_times(merged: MergedRatings) -> list[RatedItem]:
    """Returns what counts: neither gold nor what a rater saw for the second time."""
    units = merged.batch.units
    return [each for each in merged.items if not each.item.again and units[each.item.unit].gold is None]


def by_unit(items: Iterable[RatedItem]) -> dict[str, list[RatedItem]]:
    """Returns items by the unit that was rated."""
    ordered = sorted(items, key=lambda each: each.item.unit)
    return {name: list(group) for name, group in itertools.groupby(ordered, lambda each: each.item.unit)}
