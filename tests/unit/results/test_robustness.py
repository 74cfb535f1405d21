"""Drops where questions are asked in other words: what the error allows for."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slurmeval.results import robustness


@pytest.mark.parametrize(("n_categories", "method"), [(1, "tango"), (4, "tango"), (5, "t"), (60, "tango")])
def test_a_few_categories_are_the_make_up_and_five_are_clusters(
    n_categories: int, method: str, tmp_path: Path
) -> None:
    rows = [
        {
            "native_id": f"q{n}{suffix}",
            "category": f"c{n % n_categories}",
            "scores": [{"metric": "right", "value": value}],
            "metadata_json": json.dumps(told),
        }
        for n in range(60)
        for suffix, value, told in (
            ("", 1.0, {}),
            ("~upper", float(n % 3 > 0), {"perturbation": "upper", "perturbation_of": f"q{n}"}),
        )
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "samples.parquet")
    (drop,) = robustness.read(tmp_path / "samples.parquet")
    assert drop.paired.value == pytest.approx(1 / 3)
    assert drop.paired.interval is not None
    assert drop.paired.interval.method == method
