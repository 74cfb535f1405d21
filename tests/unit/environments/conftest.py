"""Locks of small packages, shared with the tests of images."""

from tests.unit.containers.conftest import folder_of, make_lock, wheels

__all__ = ["folder_of", "make_lock", "wheels"]
