"""The version stands in one place, and what else names it is the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

import slurmeval

PROJECT = Path(__file__).parents[2]


def test_package_takes_its_version_from_the_code() -> None:
    pyproject = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert "version" in pyproject["project"]["dynamic"]
    assert pyproject["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "slurmeval.__version__"}


def test_citation_names_the_latest_release() -> None:
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert citation["version"] == slurmeval.__version__
    released = re.search(r"^## \[(\S+)\] - (\S+)$", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released is not None
    assert released.groups() == (citation["version"], str(citation["date-released"]))


def test_licence_is_the_same_everywhere() -> None:
    package = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert package["license"] == citation["license"] == "Apache-2.0"
