"""The formats that results are exported to, one module each: `export(run, folder)` writes the files.

A module's name is the format's, with `_` for `-`. docs/extend.md says what a new one takes.
"""

from __future__ import annotations

import pkgutil


def formats() -> list[str]:
    """Returns the names of all formats."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))
