"""Tables and report made outside Snakemake's sight: at the end of a run with failures, and by `rescore`.

Snakemake would take them for what its own jobs made last, maybe of another config. So each time a new token
is written, which is a parameter of the rules that gather: they run again with whatever config comes next.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from slurmeval.files import read_json, write_json

if TYPE_CHECKING:
    from slurmeval.paths import Paths


def disown(paths: Paths) -> None:
    """Has the next run make tables and report again. To be called before they are written."""
    write_json(paths.disowned, {"token": secrets.token_hex(8)})


def token(paths: Paths) -> str | None:
    """Returns what `disown` has written last; None where it never has."""
    try:
        content = read_json(paths.disowned)
    except ValueError:
        return "damaged"
    return None if content is None else str(content["token"])
