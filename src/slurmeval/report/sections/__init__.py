"""The sections of the first page, in their order.

A section is a module here with one function, `section(material)`, and a template of the same name in
`templates/sections`. It returns None where there is nothing to show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurmeval.report.rendering import fragment
from slurmeval.report.sections import (
    cost,
    dimensions,
    failures,
    judges,
    metrics,
    pairs,
    patching,
    people,
    provenance,
    robustness,
    scores,
    servers,
    texts,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markupsafe import Markup

    from slurmeval.report.material import Material, ReportSection

_SECTIONS = (
    *(scores, pairs, dimensions, judges, people, robustness, texts, patching),
    *(metrics, failures, cost, servers, provenance),
)


def rendered(material: Material) -> Iterator[tuple[ReportSection, Markup]]:
    """Yields each section that has something to show, with its HTML."""
    for module in _SECTIONS:
        section = module.section(material)
        if section is not None:
            template = f"sections/{section.id}.html.j2"
            yield section, fragment(template, **{"material": material, "run": material.run, **section.values})
