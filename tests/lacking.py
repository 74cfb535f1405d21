"""What a machine lacks for a test: a failure in CI, elsewhere a skip with its reason."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacking(reason: str) -> NoReturn:
    """Ends the test, or the fixture, that cannot run here."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
