"""The config and the site file that a run was planned from, as its document has them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from slurmeval.config.models import Config
from slurmeval.config.site import Site

if TYPE_CHECKING:
    from slurmeval.state.run_document import RunDocument


@functools.lru_cache(maxsize=4)
def config_of(run: RunDocument) -> Config:
    """Returns the config of a run."""
    return Config.model_validate(run.config)


@functools.lru_cache(maxsize=4)
def site_of(run: RunDocument) -> Site | None:
    """Returns the cluster of a run; None: one machine."""
    return None if run.site is None else Site.model_validate(run.site)
