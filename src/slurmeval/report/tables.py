"""The rows that the report shows, read from the combined tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slurmeval.results import schema
from slurmeval.results.partitions import read_rows

if TYPE_CHECKING:
    from slurmeval.paths import Paths

Row = dict[str, Any]


@dataclass(frozen=True)
class ScoreCell:
    """One evaluation in the score table: its primary metric, or why there is none."""

    model: str
    benchmark: str
    status: str
    error_class: str | None = None
    metric: str | None = None
    value: float | None = None
    se: float | None = None
    ci_lo: float | None = None
    ci_hi: float | None = None
    n_items: int | None = None
    higher_is_better: bool | None = None
    n_unanswered: int | None = None
    bound_lo: float | None = None
    bound_hi: float | None = None
    harness_value: float | None = None
    harness_scale: float | None = None
    mismatch: bool | None = None
    chance: float | None = None
    mean_of: list[str] | None = None
    n_samples: int | None = None
    n_cut: int | None = None


@dataclass(frozen=True)
class Tables:
    """The rows of a run, in the order of its config."""

    evaluations: list[Row]
    metrics: list[Row]
    servers: list[Row]

    @cached_property
    def models(self) -> list[str]:
        """Ids of the models."""
        return list(dict.fromkeys(row["model"] for row in self.evaluations))

    @cached_property
    def benchmarks(self) -> list[str]:
        """Ids of the benchmarks."""
        return list(dict.fromkeys(row["benchmark"] for row in self.evaluations))

    @cached_property
    def metrics_by_evaluation(self) -> dict[tuple[str, str], list[Row]]:
        """Rows of `metrics` by model and benchmark."""
        found: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in self.metrics:
            found[row["model"], row["benchmark"]].append(row)
        return dict(found)

    @cached_property
    def scores(self) -> dict[tuple[str, str], ScoreCell]:
        """Scores by model and benchmark."""
        return {(row["model"], row["benchmark"]): self._score(row) for row in self.evaluations}

    def of_status(self, status: str) -> list[Row]:
        """Returns the evaluations of a status."""
        return [row for row in self.evaluations if row["status"] == status]

    def _score(self, row: Row) -> ScoreCell:
        key = row["model"], row["benchmark"]
        if row["status"] != "ok":
            return ScoreCell(*key, status=row["status"], error_class=row["error_class"])
        metric = primary(self.metrics_by_evaluation.get(key, []))
        if metric is None:
            return ScoreCell(*key, status="ok")
        known = row | metric
        names = ScoreCell.__dataclass_fields__.keys() & known.keys() - {"model", "benchmark", "status"}
        return ScoreCell(*key, status="ok", **{name: known[name] for name in names})


def load(paths: Paths) -> Tables:
    """Reads the three combined tables. Raises SchemaDrift on tables of another version."""
    return Tables(
        evaluations=read_rows(paths.all_evaluations, schema.ALL_EVALUATIONS).to_pylist(),
        metrics=read_rows(paths.all_metrics, schema.METRICS).to_pylist(),
        servers=read_rows(paths.all_servers, schema.SERVERS).to_pylist(),
    )


def primary(rows: Iterable[Row]) -> Row | None:
    """Returns the metric by which the benchmark is known; None if none stands for the whole."""
    return next((row for row in rows if row["is_primary"]), None)
