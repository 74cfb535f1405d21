"""A run of one model on a cluster, shared with the tests of scheduling."""

from tests.unit.scheduling.conftest import run, slurm

__all__ = ["run", "slurm"]
