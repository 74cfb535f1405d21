"""How much scores drop where questions are asked in other words, by pairs of a question and that form."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from slurmeval.results.statistics import count_as_clusters
from slurmeval.statistics.pairs import Difference, difference


@dataclass(frozen=True)
class Drop:
    """The drop of one score by one way of altering questions."""

    kind: str
    metric: str
    original: float
    """Mean over the paired questions as they are."""
    altered: float
    paired: Difference
    """Of the question itself less its altered form: above 0 is a drop."""


def read(samples: Path) -> list[Drop]:
    """Returns the drops of an evaluation, by its samples; none where nothing was altered."""
    import numpy as np

    columns = ["native_id", "category", "scores", "metadata_json"]
    values: dict[tuple[str | None, str, str], list[float]] = {}
    categories: dict[str, str | None] = {}
    for row in pq.read_table(samples, columns=columns).to_pylist():
        told = json.loads(row["metadata_json"] or "{}")
        kind = told.get("perturbation")
        question = told.get("perturbation_of", row["native_id"])
        categories.setdefault(question, row["category"])
        for score in row["scores"] or ():
            key = (kind, score["metric"], question)
            # What nobody answered, or could be read, is wrong: as in the score itself
            values.setdefault(key, []).append(score["value"] or 0.0)
    found = []
    for kind, metric in dict.fromkeys((kind, metric) for kind, metric, _ in values if kind is not None):
        asked = [q for k, m, q in values if (k, m) == (kind, metric) and (None, metric, q) in values]
        a, b = (
            np.array([statistics.fmean(values[which, metric, question]) for question in asked])
            for which in (None, kind)
        )
        named = [categories[question] for question in asked]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(named))}
        clusters = None
        if None not in numbers and count_as_clusters(len(numbers), len(named), linked=False):
            clusters = np.array([numbers[name] for name in named])
        paired = difference(a, b, clusters)
        found.append(Drop(kind, metric, float(a.mean()), float(b.mean()), paired))
    return found
