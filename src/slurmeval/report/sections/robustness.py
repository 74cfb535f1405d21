"""Robustness: what scores lose where the same questions are asked in other words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurmeval.report.material import ReportSection
from slurmeval.results import robustness

if TYPE_CHECKING:
    from slurmeval.report.material import Material

HARNESS = "custom"


def section(material: Material) -> ReportSection | None:
    """Returns the section; None: no question was altered."""
    rows = []
    for row in material.run.of_status("ok"):
        if row["harness"] == HARNESS:
            pair = (row["model"], row["benchmark"])
            rows += [(pair, drop) for drop in robustness.read(material.paths.samples(*pair))]
    return ReportSection("robustness", "Robustness", {"rows": rows}) if rows else None
