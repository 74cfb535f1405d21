"""The site profiles of the package, and which of them fits the machine that this is."""

from __future__ import annotations

import socket
from fnmatch import fnmatchcase

from slurmeval.project_files import DATA
from slurmeval.slurm import commands

FOLDER = DATA / "profiles" / "sites"

SITES = ("local", "slurm", *sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir()))
"""`local` is one machine; `slurm` a cluster that asks for nothing special; others are clusters by name."""


def site_here() -> tuple[str, str]:
    """Returns the site that this machine belongs to, and by what that is known, in words."""
    import yaml

    host = socket.gethostname()
    known_by = yaml.safe_load((FOLDER / "known-by.yaml").read_text())
    for site, marks in known_by.items():
        if any(fnmatchcase(host, pattern) for pattern in marks.get("hosts", ())):
            return site, f"this is {host}"
    if not commands.is_here():
        return "local", "no sbatch is here"
    partitions = _partitions()
    for site, marks in known_by.items():
        wanted = marks.get("partitions", ())
        if wanted and partitions.issuperset(wanted):
            return site, f"Slurm has the partitions {', '.join(wanted)}"
    return "slurm", "sbatch is here; the cluster is not known"


def _partitions() -> set[str]:
    """Returns the names of Slurm's partitions; none where it does not answer."""
    try:
        return set(commands.partitions())
    except commands.SlurmAway:
        return set()
