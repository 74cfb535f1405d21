"""What the sections of the first page are made from, and what each of them gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slurmeval.report.samples import Written

if TYPE_CHECKING:
    from slurmeval.config.models import Config
    from slurmeval.paths import Paths
    from slurmeval.report.board import Board
    from slurmeval.report.provenance import RunInfo, StagedSource
    from slurmeval.report.tables import Tables
    from slurmeval.results.matrix import Matrix


@dataclass(frozen=True)
class ReportSection:
    """A section of the first page: `templates/sections/<id>.html.j2`, rendered with `values`."""

    id: str
    """Its anchor, and the name of its template."""
    title: str
    """As the navigation has it."""
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Material:
    """A run as the report shows it."""

    paths: Paths
    run: Tables
    info: RunInfo
    matrices: Sequence[Matrix]
    left_out: Sequence[str]
    """Benchmarks whose pairs of models are not compared, for want of room."""
    board: Board | None
    """None: there are too many scores for one page."""
    samples: Written
    config: Config | None = None
    """None: the results were imported."""
    staged: Sequence[StagedSource] = ()
    shown_config: str | None = None
    """The config as it is shown."""

    @cached_property
    def on_slurm(self) -> bool:
        """Whether Slurm's accounting tells of any server."""
        return any(row["slurm_state"] for row in self.run.servers)
