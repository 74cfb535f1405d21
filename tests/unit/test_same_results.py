"""What counts as the same results: every column but those that differ between any two runs."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SCRIPT = Path(__file__).parents[2] / "scripts" / "same_results.py"
ROWS = [
    {"model": "a", "n_samples": 3, "started_at": datetime(2026, 1, 1, tzinfo=UTC), "elapsed_s": 1.0},
    {"model": "b", "n_samples": 4, "started_at": datetime(2026, 1, 2, tzinfo=UTC), "elapsed_s": 2.0},
]


def results(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "evaluations.parquet")
    return folder


def compared(one: Path, other: Path) -> tuple[int, str]:
    done = subprocess.run([sys.executable, SCRIPT, one, other], capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


def test_times_and_the_order_of_rows_do_not_count(tmp_path: Path) -> None:
    later = [row | {"started_at": datetime(2026, 2, 1, tzinfo=UTC), "elapsed_s": 9.0} for row in ROWS[::-1]]
    one, other = results(tmp_path / "one", ROWS), results(tmp_path / "other", later)
    assert compared(one, other) == (0, "equal, column by column")


def test_each_column_that_differs_is_named(tmp_path: Path) -> None:
    changed = [ROWS[0], ROWS[1] | {"n_samples": 5, "score": 0.5}]
    one, other = (
        results(tmp_path / "one", ROWS),
        results(tmp_path / "other", [ROWS[0] | {"score": None}, *changed[1:]]),
    )
    status, said = compared(one, other)
    assert status == 1
    assert said.splitlines() == [
        "evaluations.parquet: n_samples: 1 of 2 rows, such as 4 and 5",
        "evaluations.parquet: score: only in one of them",
    ]


def test_a_table_or_rows_that_are_missing_are_named(tmp_path: Path) -> None:
    one, other = results(tmp_path / "one", ROWS), results(tmp_path / "other", ROWS[:1])
    (one / "samples").mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), one / "samples" / "a.parquet")
    assert compared(one, other)[1].splitlines() == [
        "samples/a.parquet: only in one of them",
        "evaluations.parquet: model: 2 rows and 1",
        "evaluations.parquet: n_samples: 2 rows and 1",
    ]


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    status, said = compared(tmp_path, tmp_path)
    assert status == 1 and "expected a results folder, with evaluations.parquet" in said
