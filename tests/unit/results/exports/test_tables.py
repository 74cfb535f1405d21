"""CSV, Parquet and LaTeX: all rows to the last digit, and a table that LaTeX takes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slurmeval.paths import Paths
from slurmeval.results import exporting, load, schema
from slurmeval.results.exports import latex
from slurmeval.results.partitions import read_rows
from tests.report import example

SPECIAL = "_%&#${}~^\\"
ESCAPED = r"\_\%\&\#\$\{\}\textasciitilde \textasciicircum \textbackslash "
METRIC: dict[str, Any] = {
    **dict.fromkeys(schema.METRICS.schema.names),
    "metric": "acc",
    "is_primary": True,
    "value": 0.5,
    "harness_value": 0.5,
}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = example.paths_in(tmp_path)
    example.write_run(made, 15)
    return made


def run_of(cells: dict[tuple[str, str], dict[str, Any] | None]) -> exporting.Run:
    """A run with a metric for each pair; None: the evaluation failed."""
    empty = dict.fromkeys(schema.ALL_EVALUATIONS.schema.names)
    keys = [{"model": model, "benchmark": benchmark} for model, benchmark in cells]
    states = ["failed" if metric is None else "ok" for metric in cells.values()]
    evaluations = [empty | key | {"status": state} for key, state in zip(keys, states, strict=True)]
    metrics = [
        METRIC | metric | key for key, metric in zip(keys, cells.values(), strict=True) if metric is not None
    ]
    return exporting.Run(Path(), evaluations, metrics)


@pytest.mark.parametrize("table", [schema.METRICS, schema.ALL_EVALUATIONS], ids=lambda table: table.name)
def test_csv_has_all_rows_to_the_last_digit(paths: Paths, table: schema.Table) -> None:
    out = exporting.export("csv", paths.results).folder
    with (out / f"{table.name}.csv").open(newline="", encoding="utf-8") as stream:
        found = [*csv.DictReader(stream)]
    expected = read_rows(paths.results / f"{table.name}.parquet", table).to_pylist()
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        assert list(row) == table.schema.names
        for name, value in wanted.items():
            if isinstance(value, float):
                assert float(row[name]) == value
            elif value is None:
                assert row[name] == ""
            elif isinstance(value, str | int):
                assert row[name] == str(value)


def test_parquet_has_the_tables_with_the_samples_of_all_evaluations(paths: Paths) -> None:
    out = exporting.export("parquet", paths.results).folder
    for table in (schema.METRICS, schema.ALL_EVALUATIONS):
        expected = read_rows(paths.results / f"{table.name}.parquet", table)
        assert read_rows(out / f"{table.name}.parquet", table).equals(expected)
    samples = read_rows(out / "samples.parquet", schema.SAMPLES)
    assert len(samples) == 7 * 15
    assert samples.num_rows == len(load("samples", paths.results))
    parts = [pq.read_table(path, partitioning=None) for path in sorted(paths.results.glob("samples/*/*"))]
    expected = pa.concat_tables(parts)
    by = [("model", "ascending"), ("benchmark", "ascending"), ("sample_uid", "ascending")]
    assert samples.sort_by(by).equals(expected.sort_by(by))


def test_latex_escapes_names() -> None:
    text = latex.text(run_of({(f"a{SPECIAL}", "b"): {}, ("c", "b"): {}}))
    assert f"a{ESCAPED} & 0.500 \\\\\n" in text


def test_latex_shows_interval_unanswered_and_dash() -> None:
    interval = {"value": 0.25, "ci_lo": 0.1, "ci_hi": 0.4567}
    text = latex.text(
        run_of(
            {
                ("m", "a"): interval,
                ("m", "b"): interval | {"n_unanswered": 1200},
                ("m", "c"): None,
                ("m", "perplexity"): {"value": None, "harness_value": 21.37},
                ("m", "off"): {"value": None, "harness_value": 54.17, "harness_scale": 1.0},
            }
        )
    )
    assert "a & 0.250 {\\scriptsize [0.100, 0.457]} \\\\\n" in text
    assert "b & 0.250 {\\scriptsize [0.100, 0.457]} {\\scriptsize(1,200 unanswered)} \\\\\n" in text
    assert "c & -- \\\\\n" in text
    assert "perplexity & 21.370 \\\\\n" in text
    assert "off & -- \\\\\n" in text
    assert "% left out, failed: m on c\n" in text


def test_latex_says_what_was_measured_where_models_differ() -> None:
    run = run_of({("m", "a"): {}, ("n", "a"): {"metric": "f1"}})
    assert latex.text(run).splitlines()[-2:] == [
        "% a (m): acc; the task's own settings",
        "% a (n): f1; the task's own settings",
    ]


def test_no_name_breaks_out_of_a_comment() -> None:
    text = latex.text(run_of({("m", "a"): {"metric": "acc\n\\input{x}\u2028\\input{y}"}}))
    body = text.split("\\end{tabular}\n")[1]
    assert body == "% a: acc \\input{x} \\input{y}; the task's own settings\n"
