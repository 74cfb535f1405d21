"""The first import of every Python of .venv, arranged by `scripts/setup`.

It imports only what is loaded anyway. Packages of a module's PYTHONPATH come after those of .venv, which were
locked together. Caches, Snakemake's too, lie in the project folder unless XDG_CACHE_HOME names another: home
folders are read-only on some nodes and over quota on others, and Snakemake writes at every start.
"""

import io
import os
import sys


def own_packages_first() -> None:
    """Moves folders of PYTHONPATH behind this environment's packages."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    theirs = {os.path.abspath(folder) for folder in given if folder}  # noqa: PTH100
    sys.path.sort(key=theirs.__contains__)


def caches_in_the_project() -> None:
    """Sets XDG_CACHE_HOME to a folder of the project, unless it is set."""
    project = os.path.dirname(sys.prefix)  # noqa: PTH120
    os.environ.setdefault("XDG_CACHE_HOME", f"{project}/.cache")


def printing_never_fails() -> None:
    """Replaces characters that the locale does not have."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # else there is none, or someone's own
        sys.stdout.reconfigure(errors="replace")


own_packages_first()
printing_never_fails()
caches_in_the_project()
