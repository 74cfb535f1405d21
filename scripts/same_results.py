"""Compares the tables of two results folders of one config, column by column (`scripts/same-results A B`).

For changes of the code that should change no result. What differs between any two runs is left out: times,
durations, jobs, nodes, ids of requests, and versions of slurmeval. Of the table of servers, which depends on
when evaluations began, only the columns' names are compared. Prints a line for each column that differs; exit
status 1 if there is one. Both runs have the same project folder, one after the other, with files of the same
times: they are in the keys.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

VARYING = frozenset(
    {
        *("job_id", "server_id", "engine_run", "node", "nodes", "log", "request_id", "response_sha256"),
        *(
            "slurmeval_version",
            "workflow_commit",
            "workflow_dirty",
            "config_sha256",
            "slurm_state",
            "job_runs",
        ),
        *("cpu_s", "max_rss_mb", "tokens_per_s"),
    }
)
"""Columns that differ between two runs of one config, besides times (by type) and durations (by name)."""


def varies(field: pa.Field) -> bool:
    """Whether a column differs between two runs."""
    return (
        field.name in VARYING
        or pa.types.is_timestamp(field.type)
        or field.name.endswith(("_ms", "_s", "_at"))
    )


def columns(path: Path) -> dict[str, list[str]]:
    """The columns that count, each value as JSON, in an order of rows that both folders have."""
    table = pq.read_table(path)
    names = [field.name for field in table.schema if not varies(field)]
    if path.name == "servers.parquet":
        return {name: [] for name in names}
    rows = [[json.dumps(row[name], sort_keys=True) for name in names] for row in table.to_pylist()]
    turned: Any = zip(*sorted(rows), strict=True)
    return dict(zip(names, map(list, turned), strict=True)) if rows else {name: [] for name in names}


def differences(one: Path, other: Path) -> list[str]:
    """A line for each table that only one folder has, and for each column that differs."""
    files = [
        {
            str(path)
            for each in folder.rglob("*.parquet")
            if not {"work", "state"} & {*(path := each.relative_to(folder)).parts}
        }
        for folder in (one, other)
    ]
    found = [f"{name}: only in one of them" for name in sorted(files[0] ^ files[1])]
    for name in sorted(files[0] & files[1]):
        first, second = columns(one / name), columns(other / name)
        for column in sorted({*first, *second}):
            if (values := first.get(column)) == (others := second.get(column)):
                continue
            if values is None or others is None:
                found.append(f"{name}: {column}: only in one of them")
            elif len(values) != len(others):
                found.append(f"{name}: {column}: {len(values)} rows and {len(others)}")
            else:
                pairs = [pair for pair in zip(values, others, strict=True) if pair[0] != pair[1]]
                shown = " and ".join(f"{value:.60}" for value in pairs[0])
                found.append(f"{name}: {column}: {len(pairs)} of {len(values)} rows, such as {shown}")
    return found


def main() -> None:
    """Prints the differences."""
    parser = argparse.ArgumentParser(
        prog="scripts/same-results", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("one", type=Path, help="results folder")
    parser.add_argument("other", type=Path, help="results folder of the same config")
    arguments = parser.parse_args()
    folders = (arguments.one, arguments.other)
    for folder in folders:
        if not (folder / "evaluations.parquet").is_file():
            sys.exit(f"{folder}: expected a results folder, with evaluations.parquet")
    found = differences(*folders)
    print(*found or ["equal, column by column"], sep="\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
