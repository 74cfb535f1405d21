"""Experiment trackers read what was exported for them, by their own libraries; nothing is sent anywhere."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from slurmeval.environments.environments import ensure
from slurmeval.errors import SlurmevalError
from slurmeval.results import exporting
from tests.lacking import lacking
from tests.report import example

PROJECT = Path(__file__).parents[2]
AWAY = {
    "WANDB_MODE": "online",
    "WANDB_BASE_URL": "http://127.0.0.1:9",
    "TRACKIO_SERVER_URL": "http://127.0.0.1:9?write_token=x",
}
"""Variables of a user who sends elsewhere."""

pytestmark = [pytest.mark.serving, pytest.mark.timeout(900)]


def _python(lock: str) -> Path:
    """The interpreter of an environment, which is made where it is not there."""
    try:
        made = ensure(Path(__file__).with_name(lock), PROJECT / ".environments")
    except SlurmevalError as error:
        lacking(str(error))
    return made.folder / "bin" / "python"


@pytest.fixture(scope="module")
def trackers_python() -> Path:
    """The interpreter of slurmeval's packages and the trackers': SLURMEVAL_TEST_TRACKERS_PYTHON, or made."""
    named = os.environ.get("SLURMEVAL_TEST_TRACKERS_PYTHON")
    return Path(named) if named else _python("trackers.lock")


@pytest.fixture(scope="module")
def mlflow_python() -> Path:
    """The interpreter of MLflow's client."""
    return _python("mlflow.lock")


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_a_tracker_reads_every_models_scores(trackers_python: Path, tmp_path: Path, tracker: str) -> None:
    paths = example.paths_in(tmp_path / "run")
    example.write_run(paths)
    out = tmp_path / "out"
    variables = os.environ | AWAY | {"PYTHONPATH": str(PROJECT / "src"), "HOME": str(tmp_path / "home")}
    command = [trackers_python, "-m", "slurmeval", "export", "--to", tracker, "--results", paths.results]
    done = subprocess.run(
        [*command, "--out", out], capture_output=True, text=True, env=variables, check=True, timeout=300
    )
    assert done.stdout.startswith(f"{out}: ")
    assert "no samples" in done.stderr
    reader = Path(__file__).with_name("read_tracked.py")
    read = subprocess.run(
        [trackers_python, reader, tracker, out], capture_output=True, text=True, check=True, timeout=300
    )
    found = json.loads(read.stdout.splitlines()[-1])
    expected = {
        model: (config, numbers)
        for model, config, numbers in exporting.tracked(exporting.load(paths.results))
    }
    assert found.keys() == expected.keys() == set(example.MODELS)
    for model, (config, numbers) in expected.items():
        assert numbers.items() <= found[model]["numbers"].items()
        assert config["asdiv"] == found[model]["config"]["asdiv"]
    assert not any(path.is_symlink() for path in out.rglob("*"))


def test_mlflow_reads_every_models_scores_and_takes_them_into_its_database(
    mlflow_python: Path, tmp_path: Path
) -> None:
    """Its package is not needed for the export, and the folder may be moved."""
    paths = example.paths_in(tmp_path / "run")
    example.write_run(paths)
    exporting.export("mlflow", paths.results, tmp_path / "made")
    store = (tmp_path / "made").rename(tmp_path / "moved")
    reader = Path(__file__).with_name("read_tracked.py")
    database = f"sqlite:///{tmp_path / 'mlflow.db'}"
    migrate = [mlflow_python, "-m", "mlflow", "migrate-filestore", "--source", store, "--target", database]
    subprocess.run(migrate, capture_output=True, text=True, check=True, timeout=300)
    for place in (store.as_uri(), database):
        read = subprocess.run(
            [mlflow_python, reader, "mlflow", place], capture_output=True, text=True, check=True, timeout=300
        )
        found = json.loads(read.stdout.splitlines()[-1])
        assert found.keys() == set(example.MODELS)
        for model, config, numbers in exporting.tracked(exporting.load(paths.results)):
            assert found[model]["numbers"] == numbers
            settings = {f"asdiv/{name}": str(value) for name, value in config["asdiv"].items()}
            assert settings.items() <= found[model]["config"].items()
