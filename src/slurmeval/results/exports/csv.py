"""CSV: the tables `metrics` and `evaluations`, with the columns of docs/tables.md."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from slurmeval.results import schema

if TYPE_CHECKING:
    from pathlib import Path

    from slurmeval.results.exporting import Row, Run


def export(run: Run, folder: Path) -> Iterator[str]:
    """Writes `metrics.csv` and `evaluations.csv`."""
    tables = ((schema.METRICS, run.metrics), (schema.ALL_EVALUATIONS, run.evaluations))
    for table, rows in tables:
        (folder / f"{table.name}.csv").write_text(text(table, rows), encoding="utf-8", newline="")
    yield "no samples: they are too long for CSV; --to parquet has them"


def text(table: schema.Table, rows: Iterable[Row]) -> str:
    """Returns rows as CSV: null is an empty field, a list has spaces between its members."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, table.schema.names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _field(value) for name, value in row.items()} for row in rows)
    return stream.getvalue()


def _field(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return value.isoformat() if hasattr(value, "isoformat") else value
