"""The locked environments of the project, made if need be."""

from __future__ import annotations

from pathlib import Path

from slurmeval.environments.environments import ensure
from slurmeval.errors import SlurmevalError
from slurmeval.harnesses.runtimes import EnvironmentRuntime
from tests.lacking import lacking

PROJECT = Path(__file__).parents[2]


def environment(name: str) -> EnvironmentRuntime:
    """Returns the environment of `containers/locks/<name>.lock`."""
    try:
        made = ensure(PROJECT / f"containers/locks/{name}.lock", PROJECT / ".environments")
    except SlurmevalError as error:
        lacking(str(error))
    return EnvironmentRuntime(made.folder)
