"""Contamination detection (CoDeC, image contamination-detection 26.03).

Its package is not published: only the scores of results.yml are read. A score is the share of texts that the
model finds likelier alone than after other texts of the same dataset: a higher one says that the dataset was
trained on.
"""

from __future__ import annotations

from slurmeval.harnesses.base import Metric, Sample


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores by the harness's own rules."""
    for row in rows:
        row.higher_is_better = False
    return rows
