"""The tables' columns: stable, described, checked."""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pytest

from slurmeval.harnesses.base import Metric
from slurmeval.results import SCHEMA_VERSION, schema
from slurmeval.results.evaluation import EvaluationRecord


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
