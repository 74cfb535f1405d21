"""The config and the site file that a run was planned from, as its document has them."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from slurmeval.config.models import Config
from slurmeval.config.site import Site

if TYPE_CHECKING:
    from slurmeval.state.run_document import RunDocument

T = TypeVar("T", bound=BaseModel)


@functools.lru_cache(maxsize=4)
def config_of(run: RunDocument) -> Config:
    """Returns the config of a run."""
    return _validated(Config, run.config)


@functools.lru_cache(maxsize=4)
def site_of(run: RunDocument) -> Site | None:
    """Returns the cluster of a run; None: one machine."""
    return None if run.site is None else _validated(Site, run.site)


def _validated(kind: type[T], recorded: dict[str, Any]) -> T:
    """Returns what an earlier version may have recorded, without keys that there are no more."""
    try:
        return kind.model_validate(recorded)
    except ValidationError as error:
        gone = [each["loc"] for each in error.errors() if each["type"] == "extra_forbidden"]
        if len(gone) < error.error_count():
            raise
    known = copy.deepcopy(recorded)
    for *path, key in gone:
        section: Any = known
        for step in path:
            section = section[step]
        del section[key]
    return kind.model_validate(known)
