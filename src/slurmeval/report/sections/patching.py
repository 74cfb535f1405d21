"""Inside the model: what activation patching recovers, as heat maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurmeval.report.heat_maps import heat_map
from slurmeval.report.material import ReportSection
from slurmeval.results import patching

if TYPE_CHECKING:
    from slurmeval.report.material import Material

HARNESS = "patching"
LEADING = 5
"""Cells of each site that the table names."""


def section(material: Material) -> ReportSection | None:
    """Returns the section; None: nothing was patched."""
    found = []
    for row in material.run.of_status("ok"):
        if row["harness"] != HARNESS:
            continue
        pair = (row["model"], row["benchmark"])
        sites = patching.read(material.paths.samples(*pair))
        leading = [
            (each.site, cell)
            for each in sites
            for cell in sorted(each.cells, key=lambda cell: -cell.mean)[:LEADING]
        ]
        maps = [(each.site, heat_map(each)) for each in sites]
        found.append(
            {"pair": pair, "maps": maps, "leading": leading, "link": material.samples.links.get(pair)}
        )
    return ReportSection("patching", "Inside the model", {"evaluations": found}) if found else None
