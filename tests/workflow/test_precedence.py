"""On one machine the evaluations of one model run together, the longest first."""

from __future__ import annotations

from tests.workflow.conftest import Project


def test_server_starts_once_and_the_longest_evaluation_comes_first(project: Project) -> None:
    """With one core, and evaluations of another model that are ready as well."""
    config = project.config
    config["models"] = dict.fromkeys(("one", "other"), config["models"]["tiny"])
    config["benchmarks"] = {"short": project.benchmark(limit=1), "long": project.benchmark()}
    config["suites"]["all"] = ["short", "long"]
    done = project.run("--cores", "1")
    assert done.returncode == 0, done.stdout
    rows = sorted(project.table("evaluations.parquet"), key=lambda row: row["started_at"])
    found = [(row["model"], row["benchmark"]) for row in rows]
    models = list(dict.fromkeys(model for model, _ in found))
    assert found == [(model, benchmark) for model in models for benchmark in ("long", "short")]
    servers = [row["server_id"] for row in project.table("servers.parquet")]
    assert sorted(servers) == ["one/0001", "other/0001"]
