"""Scores by judges, and how far each judge can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurmeval.report.material import ReportSection
from slurmeval.results.judge_tables import read_cards, read_judged

if TYPE_CHECKING:
    from slurmeval.report.material import Material

MEASURES = {
    "judged": "answers that the judge could be asked about",
    "parse_rate": "verdicts that could be read",
    "position_consistency": "the same winner in both orders",
    "prefers_first": "of verdicts for an answer, those for the first one",
    "verbosity_slope": "by how much the score rises where an answer is twice as long",
    "self_preference": "how much higher its own answers score, quality not taken out",
    "test_retest": "the same verdict when asked again",
    "jury_alpha": "agreement of the jurors, Krippendorff's α",
    "jury_range": "mean distance of the highest and the lowest juror",
    "alpha": "agreement with people, Krippendorff's α",
    "kappa": "agreement with people on right and wrong (or the winner), Cohen's κ",
    "leaning": "the judge less people",
    "sensitivity": "of what people call right, the judge too",
    "specificity": "of what people call wrong, the judge too",
}
"""What each measure of a card says; the others are shares of the verdicts."""


def section(material: Material) -> ReportSection | None:
    """Returns the section; None: nothing was judged."""
    judged, cards = read_judged(material.paths), read_cards(material.paths)
    if not judged:
        return None
    names = list(dict.fromkeys(row["benchmark"] for row in judged))
    judges = [
        (
            name,
            [row for row in judged if row["benchmark"] == name],
            [row for row in cards if row["benchmark"] == name],
        )
        for name in names
    ]
    return ReportSection("judges", "Judges", {"judges": judges, "measures": MEASURES})
