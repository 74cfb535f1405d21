"""Files that raters fill in, as they come back: of the HTML page, of Label Studio, Potato and as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurmeval.config.study import CHOICES, CONFIDENCE
from slurmeval.errors import UserError
from slurmeval.files import lines

PAGE_FORMAT = 1
RATER = "rater"
ITEM = "item"
FLAGS = "flags"
COMMENT = "comment"
SKIPPED = "skip"
_OWN = (RATER, "batch", ITEM, FLAGS, COMMENT, SKIPPED)
TEXTS = ("question", "choices", "reference", "answer", "answer_a", "answer_b")
TAKEN = frozenset((*_OWN, *TEXTS, CONFIDENCE))
"""Names that mean something else in raters' files than a dimension."""


@dataclass(frozen=True)
class Given:
    """What a file says of an item."""

    item: str
    values: dict[str, int | str]
    flags: list[str]
    comment: str
    skipped: bool
    sha256: str | None = None
    time_s: float | None = None
    at: str | None = None
    """When it was rated; None: not told."""

    @property
    def said(self) -> tuple[Any, ...]:
        """Returns what of it is a judgement."""
        return self.values, sorted(self.flags), self.skipped


@dataclass(frozen=True)
class RaterFile:
    """A rater's file, read."""

    file: Path
    rater: str
    batch: str | None
    key_sha256: str | None
    saved_at: str | None
    ratings: list[Given]


def read_file(file: Path) -> Iterator[RaterFile]:
    """Yields what is in a file, by rater.

    Raises:
        UserError: It cannot be read, or is of no known format.
    """
    try:
        if file.suffix == ".csv":
            yield from _by_rater(file, _csv(file))
        elif file.suffix == ".jsonl":
            yield from _by_rater(file, _potato(file))
        else:
            content = json.loads(file.read_bytes())
            if isinstance(content, list):
                yield from _by_rater(file, _label_studio(content))
            else:
                yield _page(file, content)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except ValueError as error:
        raise UserError(f"{file}: cannot be read; is it whole? {error}") from None
    except (KeyError, TypeError, AttributeError, csv.Error) as error:
        raise UserError(
            f"{file}: is no file of ratings that is known, as a rater sends back: {error!r:.100}"
        ) from None


_Row = tuple[str, str | None, Given]
"""Rater, batch, and what is said of an item."""


def _by_rater(file: Path, rows: Iterator[_Row]) -> Iterator[RaterFile]:
    found: dict[tuple[str, str | None], list[Given]] = {}
    for rater, batch, given in rows:
        found.setdefault((rater, batch), []).append(given)
    if not found:
        raise UserError(f"{file}: holds no ratings")
    for (rater, batch), ratings in found.items():
        yield RaterFile(file, rater, batch, None, None, ratings)


def _page(file: Path, content: dict[str, Any]) -> RaterFile:
    if content.get("format") != PAGE_FORMAT:
        raise UserError(f"{file}: is no file of ratings of this version; expected format {PAGE_FORMAT}")
    ratings = [
        Given(
            item=str(each["item"]),
            values=dict(each["values"]),
            flags=[str(flag) for flag in each["flags"]],
            comment=str(each["comment"]),
            skipped=bool(each["skipped"]),
            sha256=str(each["sha256"]),
            time_s=float(each["time_ms"]) / 1000,
            at=str(each["at"]),
        )
        for each in content["ratings"]
    ]
    rater, batch, key, saved_at = (
        str(content[name]) for name in ("rater", "batch", "key_sha256", "saved_at")
    )
    return RaterFile(file, rater, batch, key, saved_at, ratings)


def _csv(file: Path) -> Iterator[_Row]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        # Spreadsheets of some countries write semicolons
        first = stream.readline()
        stream.seek(0)
        rows = csv.DictReader(stream, delimiter=";" if first.count(";") > first.count(",") else ",")
        for row in rows:
            if None in row or None in row.values():
                raise UserError(f"{file}, line {rows.line_num}: has not as many values as the header")
            asked = {name: text for name, text in row.items() if name not in (*_OWN, *TEXTS)}
            values = {name: _value(text) for name, text in asked.items() if text.strip()}
            flags = [flag for flag in row[FLAGS].replace(",", " ").split() if flag]
            given = Given(row[ITEM].strip(), values, flags, row[COMMENT], bool(row[SKIPPED].strip()))
            yield row[RATER], row["batch"] or None, given


def _value(text: str) -> int | str:
    """Returns a grade or a choice as a person may have written it."""
    text = text.strip()
    if text.removesuffix(".0").isdecimal():
        return int(text.removesuffix(".0"))
    return next((choice for choice in CHOICES if choice.lower() == text.lower()), text)


def _label_studio(content: list[dict[str, Any]]) -> Iterator[_Row]:
    """Yields the ratings of Label Studio's JSON export (labelstud.io/guide/task_format)."""
    for task in content:
        data = task["data"]
        done = [each for each in task.get("annotations", []) if not each.get("was_cancelled")]
        for annotation in done[-1:]:
            values: dict[str, int | str] = {}
            flags: list[str] = []
            comment, skipped = "", False
            for result in annotation["result"]:
                name, value = result["from_name"], result["value"]
                if name == FLAGS:
                    flags += [flag for flag in value["choices"] if flag != SKIPPED]
                    skipped = SKIPPED in value["choices"]
                elif name == COMMENT:
                    comment = "\n".join(value["text"])
                else:
                    values[name] = _value(str(value["choices"][0]))
            time_s, at = annotation.get("lead_time"), annotation.get("updated_at")
            given = Given(data[ITEM], values, flags, comment, skipped, data["sha256"], time_s, at)
            yield data[RATER], data["batch"], given


def _potato(file: Path) -> Iterator[_Row]:
    """Yields the ratings of Potato's annotated_instances.jsonl. An item's id is rater, batch and item."""
    for line in lines(file):
        if line.isspace():
            continue
        content = json.loads(line)
        rater, batch, item = str(content["id"]).rsplit("/", 2)
        values: dict[str, int | str] = {}
        flags: list[str] = []
        comment, skipped = "", False
        for name, labels in content["label_annotations"].items():
            if name == FLAGS:
                flags = [flag for flag in labels if flag != SKIPPED]
                skipped = SKIPPED in labels
            elif name == COMMENT:
                comment = str(next(iter(labels.values()), ""))
            elif labels:
                values[name] = _value(str(next(iter(labels))))
        yield rater, batch, Given(item, values, flags, comment, skipped)
