"""What a second run does: nothing, or exactly what failed or was changed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.workflow.conftest import N_PROBLEMS, Project

ONE_AGAIN = {"lease": 1, "evaluate": 1, "aggregate": 1, "report": 1}


@pytest.fixture
def done(project: Project) -> Project:
    """A project whose run has ended well."""
    run = project.run()
    assert run.returncode == 0, run.stdout
    return project


def test_a_dry_run_plans_and_makes_nothing(project: Project) -> None:
    plan = project.planned()
    assert plan == {
        "stage_model": 1,
        "stage_dataset": 1,
        "rehearse": 3,
        "lease": 3,
        "evaluate": 3,
        "aggregate": 1,
        "report": 1,
    }
    assert not project.results.exists()


def test_a_run_gives_every_table_and_then_there_is_nothing_to_do(done: Project) -> None:
    evaluations = done.table("evaluations.parquet")
    assert [(row["status"], row["n_samples"]) for row in evaluations] == [("ok", N_PROBLEMS)] * 3
    assert {row["metric"] for row in done.table("metrics.parquet")} >= {"pass@1"}
    assert [row["exit_reason"] for row in done.table("servers.parquet")] == ["no lease is left"]
    assert (done.results / "report" / "index.html").exists()
    again = done.run()
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout


def test_a_deleted_evaluation_alone_runs_again_from_stored_answers(done: Project) -> None:
    (done.results / "metrics" / "tiny" / "second.parquet").unlink()
    assert done.planned() == ONE_AGAIN
    before = done.answered()
    run = done.run()
    assert run.returncode == 0, run.stdout
    asked = {key: count for key, count in (done.answered() - before).items() if before[key] == 0}
    assert not asked
    row = next(row for row in done.table("evaluations.parquet") if row["benchmark"] == "second")
    assert row["n_replayed"] == N_PROBLEMS
    assert done.planned() == {}
    # All is answered from the log: no server starts
    assert {row["server_id"] for row in done.table("servers.parquet")} == {"tiny/0001"}


def test_an_answer_that_is_gone_after_all_gets_a_server(done: Project) -> None:
    (work,) = (done.results / "work" / "tiny" / "second").iterdir()
    (log,) = (work / "gateway").glob("0*.jsonl")
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))
    (done.results / "metrics" / "tiny" / "second.parquet").unlink()
    run = done.run()
    assert run.returncode == 0, run.stdout
    row = next(row for row in done.table("evaluations.parquet") if row["benchmark"] == "second")
    assert (row["status"], row["n_replayed"]) == ("ok", N_PROBLEMS - 1)
    assert {row["server_id"] for row in done.table("servers.parquet")} == {"tiny/0001", "tiny/0002"}


def test_what_is_said_of_an_environment_that_is_gone_is_forgotten(project: Project) -> None:
    record = project.folder / ".environments" / "old~0123abcd.json"
    record.write_text('{"folder": "/no/such/place", "python": "/no/such/place/bin/python"}')
    project.planned()
    assert record.exists()
    assert project.run().returncode == 0
    assert not record.exists()
    assert len(list(record.parent.glob("*~*.json"))) == 2


@pytest.mark.parametrize(
    ("place", "value", "evaluations"),
    [
        (("benchmarks", "first", "limit"), 2, 1),
        (("models", "tiny", "dtype"), "float32", 3),
        (("benchmarks", "first", "time_limit_min"), 9, 0),
        (("servers", "stand-in", "time_limit_min"), 9, 0),
        (("gateway",), {"max_in_flight": 3}, 0),
    ],
)
def test_an_edit_runs_again_what_it_alters(
    done: Project, place: tuple[str, ...], value: Any, evaluations: int
) -> None:
    section = done.config
    for key in place[:-1]:
        section = section[key]
    section[place[-1]] = value
    wanted = (
        {"lease": evaluations, "evaluate": evaluations, "aggregate": 1, "report": 1} if evaluations else {}
    )
    assert done.planned() == wanted


def test_a_failed_benchmark_stops_nothing_else_and_alone_runs_again(project: Project) -> None:
    (project.folder / "empty").mkdir()
    (project.folder / "empty" / "other.txt").write_text("no problems here")
    project.config["datasets"]["empty"] = {"folder": "empty"}
    project.config["benchmarks"]["second"]["datasets"] = ["empty"]
    run = project.run()
    assert run.returncode != 0
    statuses = {row["benchmark"]: row["status"] for row in project.table("evaluations.parquet")}
    assert statuses == {"first": "ok", "second": "failed", "third": "ok"}
    failed = next(row for row in project.table("evaluations.parquet") if row["status"] == "failed")
    assert failed["error_class"] == "harness_error"
    assert failed["reason"] in (project.results / "report" / "index.html").read_text()
    assert f"tiny on second failed (harness_error): {failed['reason']}" in run.stdout
    assert re.search(r"^tiny +third +pass@1 +0\.000 +4$", run.stdout, re.MULTILINE)
    assert "Of 3 evaluations: 2 ended well, 1 failed." in run.stdout
    assert not re.search("RuleException|CalledProcessError|set -euo pipefail", run.stdout)

    project.config["benchmarks"]["second"]["datasets"] = ["problems"]
    assert project.planned() == {**ONE_AGAIN, "rehearse": 1}
    run = project.run()
    assert run.returncode == 0, run.stdout
    assert {row["status"] for row in project.table("evaluations.parquet")} == {"ok"}
    assert project.planned() == {}


def test_a_server_that_cannot_start_fails_its_evaluations_once_with_its_reason(project: Project) -> None:
    project.config["models"]["tiny"]["flags"] = {"break-at-start": None}
    run = project.run()
    assert run.returncode != 0
    rows = project.table("evaluations.parquet")
    assert {row["error_class"] for row in rows} == {"server_lost"}
    assert all("break-at-start" in row["reason"] for row in rows)
    assert len(list((project.results / "state" / "servers" / "tiny").glob("0*"))) == 1

    project.config["models"]["tiny"]["flags"] = {}
    run = project.run()
    assert run.returncode == 0, run.stdout


def mark_half_made(project: Project, *patterns: str) -> None:
    """As a Snakemake that was killed leaves what it was making."""
    from snakemake.persistence.file import FilePersistence

    folder = project.folder / ".snakemake" / "incomplete"
    persistence = FilePersistence.__new__(FilePersistence)
    persistence._max_len = None
    for pattern in patterns:
        for file in project.folder.glob(pattern):
            name = str(file.relative_to(project.folder))
            record = Path(persistence._record_path(str(folder), name))
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_text("{}")


def test_what_is_made_again_for_its_own_sake_hides_no_evaluation(project: Project) -> None:
    staged = project.run("staged")
    assert staged.returncode == 0, staged.stdout
    forced = project.run("--forcerun", "rehearse")  # Snakemake plans nothing that reads it as `ancient`
    assert forced.returncode != 0
    assert "3 of 3 evaluations have neither a result nor a failure (tiny on first, " in forced.stdout
    mark_half_made(project, "results/staged/benchmarks/*.json", "results/staged/models/*.json")
    run = project.run()
    assert run.returncode == 0, run.stdout
    assert len(project.table("evaluations.parquet")) == 3
    assert project.planned() == {}
