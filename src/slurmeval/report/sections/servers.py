"""The servers: one row for each engine run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurmeval.report.material import ReportSection

if TYPE_CHECKING:
    from slurmeval.report.material import Material

MAX_ROWS = 500
START_PARTS = (
    ("environment_s", "environment"),
    ("weights_s", "weights"),
    ("compile_s", "compile"),
    ("first_answer_s", "first answer"),
)
"""Columns of what a start went into, and their words."""


def section(material: Material) -> ReportSection:
    """Returns the section."""
    names = ("prompt_tokens", "generated_tokens")
    sums = {name: sum(row[name] or 0 for row in material.run.servers) for name in names}
    return ReportSection(
        "servers",
        "Servers",
        {"sums": sums, "max_rows": MAX_ROWS, "on_slurm": material.on_slurm, "start_parts": START_PARTS},
    )
