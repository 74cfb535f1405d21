"""The tables of a run as pandas DataFrames, for those who read results in Python."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from slurmeval.errors import SlurmevalError, UserError
from slurmeval.results import TableName, schema
from slurmeval.results.human_ratings import read_ratings
from slurmeval.results.judge_tables import JUDGE_CARD, JUDGED
from slurmeval.results.partitions import read_rows

if TYPE_CHECKING:
    import pandas

_GATHERED = {
    "evaluations": schema.ALL_EVALUATIONS,
    "metrics": schema.METRICS,
    "servers": schema.SERVERS,
}
_OF_JUDGES = {table.name: table for table in (JUDGED, JUDGE_CARD)}
_PARTITIONED = {"samples": schema.SAMPLES, "requests": schema.REQUESTS}


def load(table: TableName, folder: Path) -> pandas.DataFrame:
    """Returns the table `table` of a results folder; `slurmeval.results.load` says the rest."""
    if table not in get_args(TableName):
        raise UserError(f"{table!r}: no such table; expected one of {', '.join(get_args(TableName))}")
    results = results_folder(folder)
    if table in _GATHERED:
        return to_frame(read_combined(table, results))
    if table == "ratings":
        return to_frame(read_ratings(results / "humans"))
    if table in _OF_JUDGES:  # there where something was judged
        of_judges, path = _OF_JUDGES[table], results / f"{table}.parquet"
        return to_frame(_read(path, of_judges) if path.exists() else of_judges.schema.empty_table())
    evaluations = _read(results / "evaluations.parquet", schema.ALL_EVALUATIONS)
    columns = (evaluations[name].to_pylist() for name in ("model", "benchmark", "status"))
    parts = [
        _read(results / table / model / f"{benchmark}.parquet", _PARTITIONED[table])
        for model, benchmark, status in zip(*columns, strict=True)
        if status == "ok"
    ]
    return to_frame(pa.concat_tables(parts) if parts else _PARTITIONED[table].schema.empty_table())


def read_combined(table: TableName, folder: Path, columns: list[str] | None = None) -> pa.Table:
    """Returns the table `evaluations`, `metrics` or `servers` of a results folder, all columns or some.

    Raises:
        UserError: The folder holds no results.
        SchemaDrift: They are of another version of slurmeval.
    """
    return _read(results_folder(folder) / f"{table}.parquet", _GATHERED[table], columns)


def read_samples(path: Path, columns: list[str]) -> pa.Table:
    """Returns some columns of an evaluation's samples. Raises as `read_combined` does."""
    return _read(path, schema.SAMPLES, columns)


def sample_groups(path: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Yields an evaluation's samples, all columns or some, with a row group in memory at a time.

    Raises as `read_combined` does.
    """
    with _readable(path), pq.ParquetFile(path) as file:
        schema.check(schema.SAMPLES, file.schema_arrow, path)
        for number in range(file.num_row_groups):
            yield file.read_row_group(number, columns, use_threads=False)


def to_frame(rows: pa.Table) -> pandas.DataFrame:
    """Returns an Arrow table as a DataFrame in which unknown whole numbers and flags stay unknown."""
    import pandas

    nullable = {pa.int64(): pandas.Int64Dtype(), pa.bool_(): pandas.BooleanDtype()}
    return rows.to_pandas(types_mapper=nullable.get)


def results_folder(folder: Path) -> Path:
    """Returns the results folder: `folder`, or `results` in it. Raises UserError if neither holds results."""
    for results in (folder, folder / "results"):
        if (results / "evaluations.parquet").is_file():
            return results
    raise UserError(
        f"{folder}: expected a folder with evaluations.parquet, which a run writes to its results folder"
    )


def _read(path: Path, table: schema.Table, columns: list[str] | None = None) -> pa.Table:
    with _readable(path):
        return read_rows(path, table, columns)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Says in one line what is wrong with a file that is read inside."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run the workflow, or `slurmeval rescore`, again") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise SlurmevalError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
