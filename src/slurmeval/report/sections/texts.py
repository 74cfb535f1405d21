"""Scores of stored answers by metrics of texts (`slurmeval score`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurmeval.report.material import ReportSection
from slurmeval.results import text_scores

if TYPE_CHECKING:
    from slurmeval.report.material import Material


def section(material: Material) -> ReportSection | None:
    """Returns the section; None: nothing was scored."""
    found = text_scores.read(material.paths.results)
    return ReportSection("texts", "Texts", {"benchmarks": found}) if found else None
