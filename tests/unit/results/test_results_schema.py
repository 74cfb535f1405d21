"""The tables' columns: stable, described, checked."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slurmeval.harnesses.base import Metric
from slurmeval.paths import Paths
from slurmeval.results import SCHEMA_VERSION, schema
from slurmeval.results.evaluation import EvaluationRecord
from tests.report import example

ALL = (schema.ALL_EVALUATIONS, *schema.TABLES[1:])


@pytest.mark.parametrize("table", schema.TABLES, ids=lambda table: table.name)
def test_every_column_says_what_it_means(table: schema.Table) -> None:
    assert len(table.names) == len(table.columns)
    assert set(table.key) <= table.names
    for field in table.schema:
        assert field.metadata[b"description"].endswith(b"."), field.name
        assert field.nullable == (field.name not in table.key)
        for suffix, unit in (("_ms", b"ms"), ("_s", b"s"), ("_at", b"UTC"), ("_tokens", b"tokens")):
            if field.name.endswith(suffix) and not field.name.endswith("tokens_per_s"):
                assert field.metadata[b"unit"] == unit, field.name


def test_every_metric_field_of_a_harness_is_a_column() -> None:
    assert {field.name for field in dataclasses.fields(Metric)} <= schema.METRICS.names


def test_every_pin_of_an_evaluation_is_a_column() -> None:
    as_json = {"versions", "datasets", "served", "parameters"}
    for field in dataclasses.fields(EvaluationRecord):
        column = f"{field.name}_json" if field.name in as_json else field.name
        assert column in schema.EVALUATIONS.names


SCHEMA_SHA256 = "e8cd8faaa13a5f82103d03bf427fc717df9462a63ff506427449688811d98c4a"
"""Of the tables of SCHEMA_VERSION."""

NULL_IN_THE_EXAMPLE: dict[str, str] = {}
"""Columns that no row of the example run has, and why."""


def test_tables_that_change_have_another_version() -> None:
    columns = [(t.name, t.key, [(n, str(kind), unit) for n, kind, unit, _ in t.columns]) for t in ALL]
    found = hashlib.sha256(repr(columns).encode()).hexdigest()
    assert found == SCHEMA_SHA256, (
        f"the tables' columns have changed: raise SCHEMA_VERSION ({SCHEMA_VERSION}) in results/__init__.py, "
        f"so that older results are written again, and write {found} into SCHEMA_SHA256 here"
    )


def _filled(paths: Paths) -> set[str]:
    """The columns of all tables of a run with a value in some row."""
    filled = set()
    for file in paths.results.rglob("*.parquet"):
        rows = pq.read_table(file)
        table = (rows.schema.metadata or {}).get(b"table", b"").decode()
        filled |= {f"{table}.{name}" for name in rows.column_names if rows[name].null_count < len(rows)}
    return filled


def test_every_column_has_a_value_somewhere_in_the_example_run(tmp_path: Path) -> None:
    full, on_slurm = example.paths_in(tmp_path / "full"), example.paths_in(tmp_path / "slurm")
    example.write_full(full)
    example.write_slurm_run(on_slurm, n=10)
    empty = {f"{table.name}.{name}" for table in ALL for name in table.names}
    assert empty - _filled(full) - _filled(on_slurm) == set(NULL_IN_THE_EXAMPLE), (
        "null in every row: give the column its value in src/slurmeval/results, and tests/report/example.py "
        "what it comes from; or say in NULL_IN_THE_EXAMPLE why it has none"
    )


def test_own_schema_passes_the_check() -> None:
    for table in schema.TABLES:
        schema.check(table, table.schema, "x")


def _without(name: str) -> pa.Schema:
    found = schema.METRICS.schema
    return found.remove(found.get_field_index(name))


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (_without("se"), "the column se of metrics is not there"),
        (_without("se").append(pa.field("se", pa.string())), "column se is string, not double"),
        (schema.METRICS.schema.append(pa.field("more", pa.string())), "metrics has no column more"),
        (
            schema.METRICS.schema.with_metadata({"schema_version": "0"}),
            f"schema version 0, not {SCHEMA_VERSION}",
        ),
        (schema.METRICS.schema.remove_metadata(), f"schema version none, not {SCHEMA_VERSION}"),
    ],
)
def test_drift_is_refused_with_file_and_column(found: pa.Schema, reason: str) -> None:
    with pytest.raises(schema.SchemaDrift, match=reason) as caught:
        schema.check(schema.METRICS, found, "a/b.parquet")
    assert str(caught.value).startswith("a/b.parquet: ")
