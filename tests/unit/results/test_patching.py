"""What activation patching recovers, over the pairs of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slurmeval.report.heat_maps import heat_map
from slurmeval.results import patching

TOKENS = ["The", " dog", " near"]


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    cells = [{"resid": [[0, 1, 1.0], [0, 2, 0.0]], "heads": [[0, 0, 0.2]]},
             {"resid": [[0, 1, 0.8], [0, 2, 0.4]], "heads": [[0, 0, 0.4]]}]  # fmt: skip
    rows = [json.dumps({"tokens": TOKENS, "cells": each}) for each in cells]
    rows += [json.dumps({"tokens": TOKENS, "problem": "the prompts are the same"}), None]
    path = tmp_path / "samples.parquet"
    pq.write_table(pa.table({"metadata_json": rows}), path)
    return path


def test_cells_are_means_over_pairs_with_their_intervals(samples: Path) -> None:
    resid, heads = patching.read(samples)
    assert (resid.site, resid.places) == ("resid", ["-2 dog", "-1 near"])
    assert resid.best.place == "-2 dog"
    assert (resid.best.mean, resid.best.n) == (pytest.approx(0.9), 2)
    # Student's t of one degree, 12.706, times .1
    assert resid.best.low == pytest.approx(0.9 - 1.2706, abs=1e-4)
    assert resid.best.high == pytest.approx(0.9 + 1.2706, abs=1e-4)
    assert [cell.place for cell in heads.cells] == ["head 0"]


def test_a_heat_map_shows_layers_and_places(samples: Path) -> None:
    chart = heat_map(patching.read(samples)[0])
    assert chart is not None
    assert chart.label == "Recovered fraction by patching resid: 1 layer"
    assert "-2 dog" in chart.svg and "layer 0, -2 dog: 0.90" in chart.svg
