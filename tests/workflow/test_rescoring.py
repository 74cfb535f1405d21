"""A newer version of the tables: results are written anew, and no server starts."""

from __future__ import annotations

import shutil
import sys

import pyarrow.parquet as pq

from slurmeval.results import SCHEMA_VERSION
from tests.workflow.conftest import N_PROBLEMS, Project


def make_older(project: Project) -> None:
    """Makes the results those of an earlier version, which gathered what it found."""
    for file in project.results.glob("*/tiny/*.parquet"):
        table = pq.read_table(file, partitioning=None)
        older = (table.schema.metadata or {}) | {b"schema_version": str(SCHEMA_VERSION - 1).encode()}
        pq.write_table(table.replace_schema_metadata(older), file)
    for file in project.results.glob("*.parquet"):
        file.unlink()


def versions(project: Project) -> set[int]:
    files = [*project.results.glob("*/tiny/*.parquet"), *project.results.glob("*.parquet")]
    assert len(files) == 4 * 3 + 3
    return {int(pq.read_schema(file).metadata[b"schema_version"]) for file in files}


def servers(project: Project) -> list[str]:
    return sorted(folder.name for folder in (project.results / "state" / "servers" / "tiny").iterdir())


def test_a_newer_version_of_the_tables_rescores_by_itself_and_starts_no_server(project: Project) -> None:
    run = project.run()
    assert run.returncode == 0, run.stdout
    before, asked = project.table("evaluations.parquet"), project.answered()
    assert versions(project) == {SCHEMA_VERSION}
    # One evaluation's harness has left nothing but its answers
    shutil.rmtree(next((project.results / "work" / "tiny" / "second").glob("*/harness")))

    make_older(project)
    assert project.planned() == {"aggregate": 1, "report": 1}
    run = project.run()
    assert run.returncode == 0, run.stdout
    assert versions(project) == {SCHEMA_VERSION}
    assert (project.answered(), servers(project)) == (asked, ["0001"])
    kept = ("status", "n_samples", "started_at", "ended_at", "answers_key", "n_requests", "model_sha256")
    after = project.table("evaluations.parquet")
    assert [[row[name] for name in kept] for row in after] == [[row[name] for name in kept] for row in before]
    assert project.planned() == {}

    rescored = project.run_command([sys.executable, "-m", "slurmeval", "rescore", "tiny", "first"])
    assert rescored.returncode == 0, rescored.stdout
    assert f"tiny on first: {N_PROBLEMS} samples rescored" in rescored.stdout
    assert servers(project) == ["0001"]
    assert project.planned() == {"aggregate": 1, "report": 1}
    history = sorted(file.parent.name for file in project.results.glob("history/tiny/*/*.json"))
    assert history == ["first", "second", "third"]


def test_what_was_never_answered_is_not_rescored(project: Project) -> None:
    run = project.run()
    assert run.returncode == 0, run.stdout
    (work,) = (project.results / "work" / "tiny" / "first").iterdir()
    shutil.rmtree(work / "harness")
    (log,) = (work / "gateway").glob("0*.jsonl")
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))
    before = project.table("evaluations/tiny/first.parquet")
    rescored = project.run_command([sys.executable, "-m", "slurmeval", "rescore", "tiny", "first"])
    assert rescored.returncode == 1
    assert "tiny on first: not rescored: not all of its answers are stored" in rescored.stdout
    assert project.table("evaluations/tiny/first.parquet") == before
    assert servers(project) == ["0001"]
