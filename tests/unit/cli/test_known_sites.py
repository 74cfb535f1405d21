"""`slurmeval init` tells the cluster that it runs on, where that can be told for sure."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import yaml

from slurmeval.cli import known_sites, main

SCRIPT = """\
#!/bin/sh
case "$0 $*" in
*scontrol*) {limits} ;;
*sinfo*) {nodes} ;;
esac
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Slurm, with a folder for its programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/nowhere")
    monkeypatch.setattr(socket, "gethostname", lambda: "node1")
    return folder


def add_slurm(folder: Path, partitions: list[str] | None) -> None:
    """Adds stand-ins for Slurm's programs, as a cluster with these partitions; None: one that does not
    answer."""
    if partitions is None:
        limits = nodes = "echo 'Unable to contact slurm controller' >&2; exit 1"
    else:
        limits = "; ".join(f"echo PartitionName={name} State=UP MaxTime=1-00:00:00" for name in partitions)
        nodes = "; ".join(f"echo '{name}|1|8|1000|(null)'" for name in partitions)
    for program in ("sbatch", "scontrol", "sinfo"):
        (folder / program).write_text(SCRIPT.format(limits=limits, nodes=nodes))
        (folder / program).chmod(0o755)


def test_a_machine_without_slurm_is_local(here: Path) -> None:
    assert known_sites.site_here()[0] == "local"


def test_a_cluster_is_known_by_its_partitions(here: Path) -> None:
    add_slurm(here, ["small", "small-g", "standard-g", "dev-g"])
    assert known_sites.site_here() == ("lumi", "Slurm has the partitions small-g, standard-g, dev-g")


def test_a_cluster_is_known_by_its_name(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_slurm(here, None)
    monkeypatch.setattr(socket, "gethostname", lambda: "login05.leonardo.local")
    assert known_sites.site_here() == ("leonardo", "this is login05.leonardo.local")


@pytest.mark.parametrize("partitions", [["gpu", "main", "small-g"], [], None])
def test_another_cluster_asks_for_nothing_special(here: Path, partitions: list[str] | None) -> None:
    add_slurm(here, partitions)
    assert known_sites.site_here()[0] == "slurm"


def test_init_says_which_site_it_took(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_slurm(here, ["alvis"])
    assert main.run(["init", str(tmp_path / "mine")]) == 0
    said = "site: alvis (Slurm has the partitions alvis; --site says otherwise)\n"
    assert capsys.readouterr().out.startswith(said)
    assert "A100" in (tmp_path / "mine" / "profiles" / "default" / "site.yaml").read_text()


def test_what_a_site_is_known_by_is_known_of_no_other() -> None:
    marks = yaml.safe_load((known_sites.FOLDER / "known-by.yaml").read_text())
    assert set(marks) <= set(known_sites.SITES)
    for site, own in marks.items():
        assert own and set(own) <= {"hosts", "partitions"}
        wider = [
            other
            for other, its in marks.items()
            if other != site and set(its.get("partitions", ["?"])) <= set(own.get("partitions", []))
        ]
        assert not wider, f"{site} would be taken for {wider}"
