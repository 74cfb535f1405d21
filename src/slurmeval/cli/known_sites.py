"""The site profiles of the package, and which of them fits the machine that this is."""

from __future__ import annotations

import shutil
import socket
from fnmatch import fnmatchcase

from slurmeval.project_files import DATA

FOLDER = DATA / "profiles" / "sites"

SITES = ("local", "slurm", *sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir()))
"""`local` is one machine; `slurm` a cluster that asks for nothing special; others are clusters by name."""


def site_here() -> tuple[str, str]:
    """Returns the site that this machine belongs to, and by what that is known, in words."""
    import yaml

    has_slurm = shutil.which("sbatch") is not None
    host, partitions = socket.gethostname(), _partitions() if has_slurm else set()
    for site, marks in yaml.safe_load((FOLDER / "known-by.yaml").read_text()).items():
        if any(fnmatchcase(host, pattern) for pattern in marks.get("hosts", ())):
            return site, f"this is {host}"
        wanted = marks.get("partitions", ())
        if wanted and partitions.issuperset(wanted):
            return site, f"Slurm has the partitions {', '.join(wanted)}"
    return (
        ("slurm", "sbatch is here; the cluster is not known") if has_slurm else ("local", "no sbatch is here")
    )


def _partitions() -> set[str]:
    """Returns the names of Slurm's partitions; none where it does not answer."""
    from slurmeval.slurm import commands

    try:
        return set(commands.partitions())
    except commands.SlurmAway:
        return set()
