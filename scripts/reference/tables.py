"""The reference page of the tables' columns, `docs/tables.md`."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from slurmeval.results.human_ratings import RATINGS
from slurmeval.results.judge_tables import JUDGE_CARD, JUDGED
from slurmeval.results.schema import COSTS, EVALUATIONS, METRICS, TABLES, Column, Table

REFERENCE = Path("docs/tables.md")
_INTRODUCTION = """# The tables

Generated from `src/slurmeval/results/schema.py` by `scripts/update-schema`; do not edit.

Each evaluation writes one Parquet file per table, `results/<table>/<model>/<benchmark>.parquet`. Those of all
evaluations are gathered in `results/metrics.parquet`, `evaluations.parquet` and `servers.parquet`. Ratings by
people are in `results/humans/<study>/ratings.parquet`, scores by judges in `results/judged.parquet` and
`judge_card.parquet`.
[results.md](results.md) explains how scores, intervals and times come about. What is not known is null.
"""


def page() -> str:
    """Returns the page: every table's columns in Markdown."""
    parts = [_INTRODUCTION]
    for table in (*TABLES, RATINGS, JUDGED, JUDGE_CARD):
        keys = ", ".join(f"`{key}`" for key in _key(table))
        parts += [f"## {table.name}\n\nOne row is {table.row}. Key: {keys}.\n", *_lines(table.columns)]
        if table is EVALUATIONS:
            parts += ["`results/evaluations.parquet` also has\n", *_lines(COSTS)]
    return "\n".join(parts)


def _lines(columns: tuple[Column, ...]) -> list[str]:
    lines = ["| column | type | unit | meaning |\n|---|---|---|---|"]
    for name, kind, unit, text in columns:
        lines.append(f"| `{name}` | {_type_name(kind)} | {unit} | {text.replace('|', chr(92) + '|')} |")
    return [*lines, ""]


def _key(table: Table) -> list[str]:
    if table is METRICS:
        return ["model", "benchmark", "task", "subset", "metric", "filter"]
    return [name for name in table.key if name != "status"]


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        inner = kind.value_type
        return "list of records" if pa.types.is_struct(inner) else f"list of {inner}"
    return "time" if pa.types.is_timestamp(kind) else str(kind)
