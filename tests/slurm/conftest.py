"""A real Slurm cluster for the tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lacking import lacking
from tests.slurm.cluster import Cluster, ClusterError, packages, requirements
from tests.slurm.project import ClusterProject


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster for all the tests of a session. SLURMEVAL_TEST_CLUSTER names the folder of one that is up
    already (`scripts/test-cluster up`): it is used, and stays up."""
    if base := os.environ.get("SLURMEVAL_TEST_CLUSTER"):
        yield Cluster.attach(Path(base))
        return
    try:
        requirements.check()
        packages.install()
    except ClusterError as error:
        lacking(str(error))
    # Not pytest's folder: other users cannot go there, and a job's user has to
    made = Cluster.up(Path(tempfile.mkdtemp(prefix="slurmeval-cluster-")))
    try:
        yield made
    finally:
        made.down()


@pytest.fixture
def make_project(cluster: Cluster) -> Iterator[Callable[[str], ClusterProject]]:
    """Makes project folders that every host sees and every user may enter."""
    root = Path(tempfile.mkdtemp(prefix="slurmeval-projects-"))
    root.chmod(0o755)
    made: list[ClusterProject] = []

    def make(name: str = "project with 'quotes'") -> ClusterProject:
        folder = root / name
        folder.mkdir()
        made.append(ClusterProject(folder, cluster))
        return made[-1]

    yield make
    for project in made:
        project.end()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def project(make_project: Callable[[str], ClusterProject]) -> ClusterProject:
    return make_project("project with 'quotes'")


@pytest.fixture(autouse=True)
def _idle_in_the_end(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test ends all that it started. Its faults are mended here, so that the next test has a cluster."""
    if "cluster" not in request.fixturenames:
        yield
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    yield
    left = cluster.restore()
    assert not left, f"left running: {left}"
