"""How the Debian packages of the tests come onto a machine, and leave it. Nothing is installed here."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.slurm.cluster import packages
from tests.slurm.cluster.commands import ClusterError


class StandInApt:
    """Takes apt's and dpkg's place: remembers what is installed, and what it was told."""

    def __init__(self, installed: Sequence[str] = ()) -> None:
        self.installed = set(installed)
        self.told: list[list[str]] = []
        self.refuse_updates = 0
        self.error = "exit code 100: E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7"

    def missing(self, wanted: Sequence[str]) -> list[str]:
        return [package for package in wanted if package not in self.installed]

    def run(self, argv: Sequence[str], **_: object) -> str:
        words = list(argv[argv.index("apt-get") + 1 :])
        self.told.append([word for word in words if not word.startswith("-")])
        verb, *named = self.told[-1]
        if verb == "update" and self.refuse_updates:
            self.refuse_updates -= 1
            raise ClusterError(f"apt-get update: {self.error}")
        threading.Event().wait(0.05)  # long enough for another to come in between
        if verb == "install":
            self.installed.update(named)
        if verb == "purge":
            self.installed.difference_update(named)
        return ""


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandInApt:
    apt = StandInApt()
    monkeypatch.setattr(packages, "run", apt.run)
    monkeypatch.setattr(packages, "missing", apt.missing)
    monkeypatch.setattr(packages, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(packages, "LISTS", tmp_path / "lists")
    monkeypatch.setattr(packages, "POLICY", tmp_path / "policy-rc.d")
    return apt


def test_two_that_install_at_once_install_once(apt: StandInApt) -> None:
    threads = [threading.Thread(target=packages.install, args=(packages.CLUSTER,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [told[0] for told in apt.told] == ["update", "install"]


def test_lists_that_another_program_holds_are_waited_for(apt: StandInApt) -> None:
    apt.refuse_updates = 3
    packages.install(packages.REGISTRY)
    assert [told[0] for told in apt.told] == ["update"] * 4 + ["install"]


def test_another_error_of_apt_is_not_waited_for(apt: StandInApt) -> None:
    apt.refuse_updates = 3
    apt.error = "E: no mirror"
    with pytest.raises(ClusterError, match="no mirror"):
        packages.install(packages.REGISTRY)
    assert len(apt.told) == 1


def test_lists_that_are_held_for_ever_are_an_error(apt: StandInApt, monkeypatch: pytest.MonkeyPatch) -> None:
    apt.refuse_updates = 10**6
    monkeypatch.setattr(packages, "BUSY_S", 0.2)
    with pytest.raises(ClusterError, match="apt's lists, which another program holds"):
        packages.install(packages.REGISTRY)


def test_all_that_tests_install_is_removed_and_nothing_of_the_machine(apt: StandInApt) -> None:
    for part in packages.PARTS:
        packages.install(part)
    apt.installed |= {"bash", *packages.OF_THE_MACHINE}
    (packages.LISTS / "partial").mkdir(parents=True)
    packages.remove()
    assert apt.installed == {"bash", *packages.OF_THE_MACHINE}
    assert not list(packages.LISTS.iterdir())


def test_nothing_to_remove_is_no_error(apt: StandInApt) -> None:
    packages.remove()
    assert apt.told == []


def test_packages_are_removed_by_a_python_without_slurmeval() -> None:
    """As `.ci/run` does, before anything is installed."""
    project = Path(__file__).parents[2]
    python = Path(sys.base_prefix) / "bin" / "python3"
    found = subprocess.run(
        [
            python,
            "-E",
            "-s",
            "-c",
            "import tests.slurm.cluster.packages, sys; print('slurmeval' in sys.modules)",
        ],
        cwd=project,
        capture_output=True,
        text=True,
    )
    assert (found.stderr, found.stdout) == ("", "False\n")
