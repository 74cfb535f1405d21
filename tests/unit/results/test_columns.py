"""Columns hold the very values of the rows that they are made of."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slurmeval.harnesses.base import Sample, Score
from slurmeval.harnesses.lm_eval_samples import LmEvalFiles, LmEvalSamples
from slurmeval.results import columns, partitions, schema
from tests.report import example

FIXTURES = Path(__file__).parents[1] / "harnesses" / "fixtures"
OUTPUTS = sorted({path.parent for path in FIXTURES.rglob("samples_*.jsonl")})


def rows_of(samples: list[Sample]) -> list[dict[str, Any]]:
    """The samples' own columns, row by row."""
    names = schema.SAMPLES.names - {"sample_uid", "status", "reasoning", "metadata_json"}
    return [
        {name: value for name, value in asdict(sample).items() if name in names}
        | {"metadata_json": columns.json_text(sample.metadata)}
        for sample in samples
    ]


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda path: str(path.relative_to(FIXTURES)))
def test_a_partition_has_what_arrow_makes_of_the_samples_one_by_one(output: Path, tmp_path: Path) -> None:
    paths, samples = example.paths_in(tmp_path), list(LmEvalSamples(LmEvalFiles(output)))
    made = example.output([], "t")
    made.samples = samples
    partitions.write(paths, "m", "b", example.evaluation(), made, [])
    table = pq.read_table(paths.samples("m", "b"), partitioning=None)
    rows = rows_of(samples)
    kinds = pa.schema([field for field in table.schema if field.name in rows[0]])
    assert table.select(kinds.names).to_pylist() == pa.Table.from_pylist(rows, kinds).to_pylist()


def test_scores_are_lists_of_records() -> None:
    scores = [[Score("a", 0.5, "f", None, "x")], [], [Score("a", 1.0, correct=True), Score("b", None)]]
    found = columns.scores(scores)
    assert found.to_pylist() == [[asdict(score) for score in each] for each in scores]
    assert found.type == schema.SAMPLES.schema.field("scores").type


def test_what_a_row_leaves_out_is_null_and_the_key_is_in_all() -> None:
    rows: list[dict[str, Any]] = [{"metric": "a"}, {"task": "t", "value": 0.5}]
    table = columns.table(columns.of_rows(rows), {"model": "m"}, schema.METRICS)
    assert table.select(["model", "benchmark", "task", "metric", "value"]).to_pylist() == [
        {"model": "m", "benchmark": None, "task": None, "metric": "a", "value": None},
        {"model": "m", "benchmark": None, "task": "t", "metric": None, "value": 0.5},
    ]
