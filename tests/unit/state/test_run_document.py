"""Run documents: what jobs read is what was planned, and those of other versions are refused in a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.of_run import config_of, site_of
from slurmeval.config.site import Site
from slurmeval.paths import Paths
from slurmeval.state.records import Unreadable, encode, load, write
from slurmeval.state.run_document import RunDocument
from tests.run_documents import benchmark_entry, model_entry, run_document


@pytest.fixture
def run(tmp_path: Path) -> RunDocument:
    paths = Paths(*(tmp_path / name for name in ("results", "environments", "hf", "images")))
    there_already = model_entry(paths, "hosted", runtime="none", environment=None)
    models = {"tiny": model_entry(paths, "tiny", params={"dtype": "auto"}), "hosted": there_already}
    site = Site.model_validate({"version": 1, "dependencies": False}).model_dump(mode="json")
    return run_document(paths, models, {"arc": benchmark_entry(versions={"lm-eval": "0.4.9"})}, site=site)


def test_what_is_written_is_read(run: RunDocument, tmp_path: Path) -> None:
    write(tmp_path / "run.json", run)
    read = load(tmp_path / "run.json", RunDocument)
    assert vars(read) == vars(run)
    assert config_of(read) == config_of(run)
    assert (site := site_of(read)) is not None and not site.dependencies
    assert read.work("tiny", "arc") == run.paths.work("tiny", "arc", "a" * 64)


def test_one_of_version_0_1_is_read(run: RunDocument, tmp_path: Path) -> None:
    """It has no format, nor what came later, and each server's spec has one of its own."""
    value = encode(run)
    del value["format"], value["tokenizers"]
    for entry in value["models"].values():
        del entry["shared_job"]
        entry["serving"]["format"] = 1
    (tmp_path / "run.json").write_text(json.dumps(value))
    assert vars(load(tmp_path / "run.json", RunDocument)) == vars(run)


@pytest.mark.parametrize(
    ("altered", "reason"),
    [
        ({"format": 2}, "expected format 1, found 2"),
        ({"order": None}, "order: expected array, got null"),
        ({"models": {"tiny": {}}}, "models[...]: object missing required field runtime"),
    ],
)
def test_another_version_is_refused_in_one_line(
    run: RunDocument, tmp_path: Path, altered: dict[str, Any], reason: str
) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(encode(run) | altered))
    with pytest.raises(Unreadable) as refused:
        load(file, RunDocument)
    assert str(refused.value) == f"{file}: {reason}"
