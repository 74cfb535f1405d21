"""The version stands in three files, and is the same in each."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml

import slurmeval

PROJECT = Path(__file__).parents[2]


def test_the_version_is_the_same_everywhere() -> None:
    package = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert slurmeval.__version__ == package["version"] == citation["version"]
    assert package["license"] == citation["license"] == "Apache-2.0"
