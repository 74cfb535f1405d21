"""What a dry run and `slurmeval plan` say: before, after a failure, and when nothing is to be done."""

from __future__ import annotations

import subprocess
import sys

from tests.workflow.conftest import Project


def dry_run(project: Project) -> str:
    """What slurmeval adds to Snakemake's words."""
    done = project.run("-n")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Will start") == 1
    return done.stdout[done.stdout.index("Will start") :]


def planned(project: Project) -> subprocess.CompletedProcess[str]:
    options = project.command()[3:]
    return project.run_command([sys.executable, "-m", "slurmeval", "plan", *options])


def test_a_plan_before_after_a_failure_and_when_all_is_done(project: Project) -> None:
    project.config["benchmarks"]["second"]["datasets"] = ["broken"]
    project.config["datasets"]["broken"] = {"folder": "broken"}
    (project.folder / "broken").mkdir()
    (project.folder / "broken" / "HumanEval.jsonl.gz").write_bytes(b"not gzip")

    before = dry_run(project)
    assert before.startswith("Will start 1 server and 3 evaluations on this machine.\n")
    assert "Expected: time is unknown" in before
    plan = planned(project)
    assert plan.returncode == 0, plan.stdout
    figures, hint = before.rstrip("\n").rsplit("\n", 1)
    assert plan.stdout.startswith(figures)
    assert hint == "`slurmeval plan`, with the same options, also asks the hub."
    assert "Snakemake's jobs: " in plan.stdout and "3 evaluate, 3 lease" in plan.stdout
    assert not (project.results / "state").exists()

    assert project.run().returncode != 0
    after = dry_run(project)
    assert after.startswith("Will start 1 server and 1 evaluation on this machine.\n")
    assert "Of 3 evaluations, 2 are done already.\n" in after
    assert "Earlier runs tell of 0 of 1 evaluation, and of 1 of 1 server start." in after

    project.config["benchmarks"]["second"]["datasets"] = ["problems"]
    assert project.run().returncode == 0
    assert dry_run(project).splitlines() == [
        "Will start no server and no evaluation on this machine.",
        "Of 3 evaluations, 3 are done.",
    ]
    project.config["benchmarks"]["first"]["max_tokens"] = 77
    again = dry_run(project)
    assert again.startswith("Will start 1 server and 1 evaluation on this machine.\n")
    assert "Expected: about" in again
    assert "Earlier runs tell of 1 of 1 evaluation, and of 1 of 1 server start." in again


def test_a_plan_that_fails_says_why(project: Project) -> None:
    project.config["servers"] = {}
    plan = planned(project)
    assert plan.returncode == 1
    assert "slurmeval: " in plan.stdout
    assert "Will start" not in plan.stdout
