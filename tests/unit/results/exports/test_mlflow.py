"""MLflow's file store: names that MLflow takes, and nothing outside its folder.

MLflow's own client reads it in tests/serving/test_tracked.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from slurmeval.results import exporting
from tests.report import example


def test_a_run_has_metrics_parameters_and_no_place_of_this_machine(tmp_path: Path) -> None:
    paths = example.paths_in(tmp_path)
    example.write_run(paths)
    written = exporting.export("mlflow", paths.results, tmp_path / "out")
    (experiment,) = (tmp_path / "out").iterdir()
    runs = {
        yaml.safe_load(file.read_text())["run_name"]: file.parent for file in experiment.glob("*/meta.yaml")
    }
    assert runs.keys() == set(example.MODELS)
    _, value, step = (runs[example.MODELS[0]] / "metrics" / "asdiv" / "exact_match").read_text().split()
    assert (float(value), step) == (0.6, "0")
    assert (runs[example.MODELS[0]] / "params" / "asdiv" / "limit").read_text() == "60"
    assert not any(str(tmp_path) in (tmp_path / "out" / file).read_text() for file in written.files)
    assert exporting.export("mlflow", paths.results, tmp_path / "out").files == written.files


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../up", "_/_/up"),
        ("a/../b", "a/_/b"),
        ("acc,none", "acc_none"),
        ("bfcl.v3", "bfcl.v3"),
        (".", "_"),
    ],
)
def test_a_name_stays_in_its_folder(tmp_path: Path, name: str, expected: str) -> None:
    from slurmeval.results.exports.mlflow import _write_all

    _write_all(tmp_path / "metrics", {name: "1"})
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert str(file.relative_to(tmp_path / "metrics")) == expected
