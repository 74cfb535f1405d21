"""Inspect's own reader opens exported logs, and finds in them what the tables say."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from slurmeval.environments.environments import ensure
from slurmeval.errors import SlurmevalError
from slurmeval.paths import Paths
from slurmeval.results import exporting
from slurmeval.results.exports.inspect import STOP_REASONS
from tests.lacking import lacking
from tests.report import example
from tests.unit.results.exports.conftest import every_harness  # noqa: F401

PROJECT = Path(__file__).parents[2]

pytestmark = [pytest.mark.serving, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def inspect_python() -> Path:
    """The interpreter of an environment with Inspect: SLURMEVAL_TEST_INSPECT_PYTHON, or made if need be."""
    if named := os.environ.get("SLURMEVAL_TEST_INSPECT_PYTHON"):
        return Path(named)
    try:
        made = ensure(Path(__file__).with_name("inspect-ai.lock"), PROJECT / ".environments")
    except SlurmevalError as error:
        lacking(str(error))
    return made.folder / "bin" / "python"


def logs(python: Path, results: Path, out: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Exports results, and returns what Inspect reads, by model and benchmark."""
    exporting.export("inspect", results, out)
    reader = Path(__file__).with_name("read_inspect_logs.py")
    done = subprocess.run([python, reader, out], capture_output=True, text=True, check=True, timeout=300)
    return {(log["model"], log["task"]): log for log in json.loads(done.stdout)}


def check(run: exporting.Run, found: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Holds what Inspect read against the tables."""
    assert found.keys() == {(row["model"], row["benchmark"]) for row in run.ended}
    for pair, log in found.items():
        rows = [*run.samples(*pair)]
        assert log["status"] == "success" and len(rows) == len(log["samples"]) == log["n_summaries"]
        for row in rows:
            sample = log["samples"][f"{row['sample_uid']} {row['repeat_idx']}"]
            assert sample["input"] == (row["input"] or "")
            assert sample["output"] == (row["output"] or "")
            assert sample["target"] == (row["reference"] or "")
            known = [row["prompt_tokens"], row["completion_tokens"]]
            assert sample["tokens"] == (None if None in known else known)
            assert sample["stop_reason"] == STOP_REASONS.get(row["finish_reason"], "unknown")
            values = [score["value"] for score in row["scores"] if score["value"] is not None]
            assert [*sample["scores"].values()] == values
            assert (sample["error"] is not None) == (row["status"] == "error")
        primary = run.primary(*pair)
        if primary is not None and (number := exporting.number_of(primary)) is not None:
            scorer = "/".join(part for part in (primary["metric"], primary["filter"]) if part)
            assert log["scores"][scorer][primary["metric"]] == number


def test_inspect_reads_tokens_stop_reasons_and_hostile_answers(inspect_python: Path, tmp_path: Path) -> None:
    paths = example.paths_in(tmp_path / "run")
    example.write_run(paths)
    found = logs(inspect_python, paths.results, tmp_path / "logs")
    check(exporting.load(paths.results), found)
    samples = [sample for log in found.values() for sample in log["samples"].values()]
    assert {sample["stop_reason"] for sample in samples} == {"stop", "max_tokens"}
    assert all(sample["tokens"][0] >= 20 for sample in samples)


def test_inspect_reads_logs_of_every_harness(
    inspect_python: Path,
    every_harness: Paths,  # noqa: F811
    tmp_path: Path,
) -> None:
    found = logs(inspect_python, every_harness.results, tmp_path)
    check(exporting.load(every_harness.results), found)
    assert sum(len(log["samples"]) for log in found.values()) > 150
