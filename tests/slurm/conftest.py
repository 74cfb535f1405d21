"""Projects on a real Slurm cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.project import ClusterProject


@pytest.fixture
def project(cluster: Cluster, projects_folder: Path) -> Iterator[ClusterProject]:
    made = ClusterProject(projects_folder / "project with 'quotes'", cluster)
    yield made
    made.end()


@pytest.fixture(autouse=True)
def _idle(idle_in_the_end: None) -> None:
    """Every test here leaves the cluster as it was."""
