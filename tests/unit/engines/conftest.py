"""What the tests of servers and of the config have, for an engine on its way through both."""

from __future__ import annotations

from tests.unit.config.conftest import good, loaded, project, refusal
from tests.unit.servers.conftest import bench

__all__ = ["bench", "good", "loaded", "project", "refusal"]
