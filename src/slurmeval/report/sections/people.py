"""What people said of stored answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurmeval.humans.writing import summaries
from slurmeval.report.material import ReportSection

if TYPE_CHECKING:
    from slurmeval.report.material import Material


def section(material: Material) -> ReportSection | None:
    """Returns the section; None: no study was read back."""
    studies = summaries(material.paths.humans)
    return ReportSection("people", "People", {"studies": studies}) if studies else None
