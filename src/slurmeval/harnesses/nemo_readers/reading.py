"""Files of wrapped harnesses, read so that anything unexpected is a bad result and never a crash."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slurmeval.harnesses.base import Metric
from slurmeval.harnesses.json_lines import MALFORMED, readable
from slurmeval.harnesses.scores import bad_result, number, proportion

_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_CELL_LIMIT = 64 * 2**20
"""Characters in one field of a CSV file: documents of a long-context benchmark stand in one."""


def one_file(output: Path, pattern: str, harness: str) -> Path:
    """Returns the only file under `output` that matches.

    Raises:
        EvaluationFailed: There is none, or there are several (bad_result).
    """
    found = sorted(path for path in output.glob(pattern) if path.is_file())
    if len(found) != 1:
        raise bad_result(f"{harness}: {len(found)} files {pattern}, where there should be one")
    return found[0]


def json_value(path: Path) -> Any:
    """Returns the value of a JSON file.

    Raises:
        EvaluationFailed: It cannot be read (bad_result).
    """
    try:
        with readable(path):
            return json.loads(path.read_bytes())
    except RecursionError as error:
        raise bad_result(f"{path.name}: not JSON: nested too deeply") from error
    except ValueError as error:
        raise bad_result(f"{path.name}: not JSON: {error}") from error


def csv_rows(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV file with a header, as pandas writes it.

    Raises:
        EvaluationFailed: It cannot be read (bad_result).
    """
    previous = csv.field_size_limit(_CELL_LIMIT)
    try:
        with readable(path), path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise bad_result(f"{path.name}: not CSV: {error}") from error
    finally:
        csv.field_size_limit(previous)
    for row in rows:
        if None in row or None in row.values():
            raise bad_result(f"{path.name}: a line has another number of fields than the header")
    return rows


def xlsx_rows(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a workbook's first sheet by its header; empty cells are left out.

    Raises:
        EvaluationFailed: It cannot be read (bad_result).
    """
    try:
        with zipfile.ZipFile(path) as book:
            shared = []
            if "xl/sharedStrings.xml" in book.namelist():
                strings = ET.fromstring(book.read("xl/sharedStrings.xml"))
                shared = [_text_of(item) for item in strings.iter(f"{_SHEET}si")]
            sheet = ET.fromstring(book.read("xl/worksheets/sheet1.xml"))
        rows = [_cells(row, shared) for row in sheet.iter(f"{_SHEET}row")]
    except (OSError, KeyError, IndexError, ValueError, zipfile.BadZipFile, ET.ParseError) as error:
        raise bad_result(f"{path.name}: not a workbook: {error}") from error
    header = rows[0] if rows else {}
    return [
        {header[column]: text for column, text in row.items() if column in header} for row in rows[1:] if row
    ]


def _cells(row: ET.Element, shared: list[str]) -> dict[str, str]:
    """Returns the cells' texts by the letters of their column."""
    cells = {}
    for cell in row.iter(f"{_SHEET}c"):
        kind, value = cell.get("t"), cell.find(f"{_SHEET}v")
        if kind == "inlineStr":
            text = _text_of(cell)
        elif value is None or value.text is None:
            continue
        else:
            text = shared[int(value.text)] if kind == "s" else value.text
        cells[re.sub(r"\d", "", cell.get("r", ""))] = text
    return cells


def _text_of(element: ET.Element) -> str:
    return "".join(part.text or "" for part in element.iter(f"{_SHEET}t"))


@contextmanager
def laid_out_by(harness: str, path: Path) -> Iterator[None]:
    """Turns what is missing or of another kind inside a file into a bad result that names the file."""
    try:
        yield
    except MALFORMED as error:
        raise bad_result(f"{path.name}: not laid out as {harness} does: {error!r}") from error


def text_of(value: Any) -> str | None:
    """Returns text as it is, anything else as JSON; None stays None."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def number_in(text: str | None) -> float | None:
    """Returns a number as CSV has it; None for an empty field or anything else."""
    try:
        return number(float(text or ""))
    except ValueError:
        return None


def mean_of(stat: dict[str, Any]) -> float | None:
    """Returns the mean of a HELM `Stat`; None where its sum is not finite.

    Raises:
        TypeError: Its sum is no number, or its count no whole one.
    """
    total, count = stat["sum"], stat["count"]
    if type(total) not in (int, float) or type(count) is not int or count < 1:
        raise TypeError(f"sum {total!r:.40}, count {count!r:.40}")
    return number(total / count)


def conversation(messages: Sequence[tuple[str, str | None]]) -> str:
    """Returns messages (role, text) as a person reads them; a single one without its role."""
    if len(messages) == 1:
        return messages[0][1] or ""
    return "\n\n".join(f"{role}: {text or ''}" for role, text in messages)


def rescale(row: Metric, scale: int) -> None:
    """Sets the scale of a row of results.yml that was read with the scale 1."""
    row.harness_scale = scale
    row.value = None if row.harness_value is None else proportion(row.harness_value, scale)
    row.se = None if row.se is None else row.se / scale


def no_proportion(row: Metric) -> None:
    """Marks a count, a length or a speed as no proportion.

    `harness_value` keeps it, and there is no `value` even where it lies in 0 to 1.
    """
    row.value = row.se = row.harness_scale = None
