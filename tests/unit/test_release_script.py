"""`scripts/release` dates the changelog, writes the version, commits and tags, or changes nothing."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    **{f"GIT_{who}_{what}": "t@x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}
CHANGELOG = """# Changelog

## [Unreleased]

### Added

- Something new.

## [0.1.0] - 2026-11-29

- Everything.
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of its own with what a release changes."""
    for name in ("scripts/release", "CITATION.cff", "src/slurmeval/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, tmp_path / name)
    version = tmp_path / "src/slurmeval/__init__.py"
    version.write_text('"""Some text."""\n\n__version__ = "0.1.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "All")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def release(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [folder / "scripts/release", *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_release_dates_the_changelog_and_tags(repository: Path) -> None:
    done = release(repository, "0.2.0")
    assert done.returncode == 0, done.stderr
    today = datetime.date.today().isoformat()
    changelog = (repository / "CHANGELOG.md").read_text()
    assert changelog == CHANGELOG.replace("[Unreleased]\n", f"[Unreleased]\n\n## [0.2.0] - {today}\n")
    citation = (repository / "CITATION.cff").read_text()
    assert "\nversion: 0.2.0\n" in citation
    assert f"\ndate-released: {today}\n" in citation
    assert '__version__ = "0.2.0"' in (repository / "src/slurmeval/__init__.py").read_text()
    assert git(repository, "status", "--porcelain") == ""
    assert git(repository, "describe", "--exact-match").strip() == "v0.2.0"
    assert git(repository, "log", "-1", "--format=%s").strip() == "Version 0.2.0"


def test_next_release_needs_entries_of_its_own(repository: Path) -> None:
    assert release(repository, "0.2.0").returncode == 0
    done = release(repository, "0.2.1")
    assert done.returncode == 1
    assert done.stderr == "release: CHANGELOG.md has no entries under [Unreleased]\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected one argument, the version, such as 1.2.0"),
        (["v0.2.0"], "expected a version of three numbers such as 1.2.0, got 'v0.2.0'"),
        (["0.2"], "expected a version of three numbers such as 1.2.0, got '0.2'"),
        (["0.1.0"], "CHANGELOG.md has a section for 0.1.0 already"),
        (["0.0.9"], "0.0.9 is older than the current version, 0.1.0"),
        (["0.3.0"], "the tag v0.3.0 exists already"),
    ],
)
def test_release_that_cannot_be_changes_nothing(repository: Path, arguments: list[str], said: str) -> None:
    git(repository, "tag", "v0.3.0")
    done = release(repository, *arguments)
    assert (done.returncode, done.stderr) == (1, f"release: {said}\n")
    assert git(repository, "status", "--porcelain") == ""
    assert git(repository, "log", "--format=%s") == "All\n"


def test_release_of_changes_that_are_not_committed_is_refused(repository: Path) -> None:
    (repository / "CITATION.cff").write_text("more: text\n")
    done = release(repository, "0.2.0")
    assert (done.returncode, done.stderr) == (1, "release: commit or remove first:  M CITATION.cff \n")
    assert git(repository, "tag") == ""
