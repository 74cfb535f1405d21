"""A real Slurm cluster on one Debian machine, as root, for tests."""

from tests.slurm.cluster.cluster import Cluster
from tests.slurm.cluster.commands import ClusterError

__all__ = ["Cluster", "ClusterError"]
