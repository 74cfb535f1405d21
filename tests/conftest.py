"""What several folders of tests share."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.lacking import lacking
from tests.slurm.cluster import Cluster, ClusterError, packages, requirements

# What runs in the background ignores Ctrl-C, and so would all programs that tests start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure: what is slow is measured in timings/
hypothesis.settings.register_profile("slurmeval", deadline=None)
hypothesis.settings.load_profile("slurmeval")


@pytest.fixture
def amd64() -> None:
    """The stand-in for Apptainer builds for such machines only."""
    if os.uname().machine != "x86_64":
        lacking("the stand-in for Apptainer builds for amd64 only")


@pytest.fixture
def projects_folder() -> Iterator[Path]:
    """For projects whose jobs go to the cluster: every host sees it, and every user may enter it."""
    # Not pytest's folder: other users cannot go there
    folder = Path(tempfile.mkdtemp(prefix="slurmeval-projects-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


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
def idle_in_the_end(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test ends all that it started. Its faults are mended here, so that the next test has a cluster. To be
    used by every test of a folder whose tests have a cluster."""
    if "cluster" not in request.fixturenames:
        yield
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    yield
    left = cluster.restore()
    assert not left, f"left running: {left}"
