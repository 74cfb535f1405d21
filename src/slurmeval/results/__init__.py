"""Results as Parquet: one partition per evaluation, and the tables over all of them.

`load` gives any of the tables as a pandas DataFrame; docs/python.md shows what to do with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas

__all__ = ["ANSWERS_VERSION", "SCHEMA_VERSION", "TableName", "load"]

ANSWERS_VERSION = 1
"""Version of what harnesses are told. A newer one has evaluations run again."""

SCHEMA_VERSION = 6
"""Version of the tables. A newer one has partitions written anew from what the harnesses left: no evaluation
runs again, and no server starts."""

TableName = Literal[
    "evaluations", "metrics", "samples", "requests", "servers", "ratings", "judged", "judge_card"
]


def load(table: TableName, folder: str | Path = "results") -> pandas.DataFrame:
    """Returns one of the run's tables as a DataFrame with the columns of docs/tables.md.

    Whole numbers are `Int64` and flags `boolean`, so that an unknown one is `<NA>`, not 0. An unknown float
    is NaN. Times are UTC. `samples` and `requests` are read from the partitions of all evaluations that ended
    well, in the order of the table `evaluations`.

    Args:
        table: `evaluations`, `metrics`, `samples`, `requests`, `servers`, `ratings` (by people), `judged` or
            `judge_card`.
        folder: The run's results folder, or the project folder that holds it as `results`.

    Raises:
        UserError: There is no such table, or the folder holds no results.
        SchemaDrift: The results are of another version of slurmeval (`slurmeval rescore` renews them).
    """
    from slurmeval.results import frames

    return frames.load(table, Path(folder))
