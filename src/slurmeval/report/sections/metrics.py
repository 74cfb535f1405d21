"""Every metric of every evaluation, the harness's value beside the recomputed one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurmeval.report.material import ReportSection

if TYPE_CHECKING:
    from slurmeval.report.material import Material

MAX_ROWS = 1000
"""More are not on the first page, which says where they are."""


def section(material: Material) -> ReportSection:
    """Returns the section."""
    mismatches = [row for row in material.run.metrics if row["mismatch"]]
    return ReportSection("metrics", "Metrics", {"mismatches": mismatches, "max_rows": MAX_ROWS})
