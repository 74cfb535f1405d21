"""Locked virtual environments, and the package indexes that they come from."""
