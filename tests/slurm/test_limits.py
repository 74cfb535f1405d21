"""Limits on a user's jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.project import ClusterProject
from tests.waiting import wait_for

Limit = Callable[..., None]


@pytest.fixture
def limit(cluster: Cluster) -> Iterator[Limit]:
    """`limit(MaxJobs=2)` for the user."""
    given: set[str] = set()

    def modify(**limits: int) -> None:
        given.update(limits)
        words = [f"{name}={value}" for name, value in limits.items()]
        cluster.ask(["sacctmgr", "--immediate", "modify", "user", "root", "set", *words])

    yield modify
    modify(**dict.fromkeys(given, -1))


def test_a_server_waits_until_slurm_takes_further_jobs(project: ClusterProject, limit: Limit) -> None:
    others = [
        project.cluster.submit("--partition=cpu", "--output=/dev/null", "--wrap=sleep 300") for _ in range(2)
    ]
    limit(MaxSubmitJobs=2)
    run = project.start()
    wait_for(lambda: "AssocMaxSubmitJobLimit" in project.log(), "the refusal", 60)
    assert run.poll() is None and not project.jobs()
    project.cluster.ask(["scancel", *others])
    limit(MaxSubmitJobs=-1)
    project.finish(run)
    assert project.log().count("AssocMaxSubmitJobLimit") == 1
    assert {path.name for path in (project.results / "state" / "servers" / "tiny").iterdir()} == {"0001"}
