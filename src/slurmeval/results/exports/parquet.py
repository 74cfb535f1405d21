"""Parquet: the tables `evaluations`, `metrics` and `samples`, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from slurmeval.results import schema

if TYPE_CHECKING:
    from pathlib import Path

    from slurmeval.results.exporting import Run


def export(run: Run, folder: Path) -> list[str]:
    """Writes the three files. `samples.parquet` has those of all evaluations that ended well."""
    tables = ((schema.METRICS, run.metrics), (schema.ALL_EVALUATIONS, run.evaluations))
    for table, rows in tables:
        pq.write_table(pa.Table.from_pylist([*rows], table.schema), folder / f"{table.name}.parquet")
    path = folder / f"{schema.SAMPLES.name}.parquet"
    with pq.ParquetWriter(path, schema.SAMPLES.schema, compression="zstd") as writer:
        for row in run.ended:
            for group in run.sample_groups(row["model"], row["benchmark"]):
                writer.write_table(group)
    return []
