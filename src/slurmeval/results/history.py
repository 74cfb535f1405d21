"""Every evaluation that ended well, also those whose place in the tables another has taken.

A file for each in `results/history`, named by a hash of all that alters results: model, server, harness, data
and settings. The same evaluation, done or scored again, is the same file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmeval.errors import UserError
from slurmeval.files import sha256_of_json, write_json
from slurmeval.paths import Paths
from slurmeval.results import frames, schema
from slurmeval.results.partitions import evaluation_row, read_rows
from slurmeval.results.records import read_record

if TYPE_CHECKING:
    from slurmeval.results.questions import Row

_FORMAT = 1
_SETTINGS = (
    *(
        "harness",
        "harness_version",
        "task",
        "task_version",
        "model_revision",
        "endpoint",
        "few_shot",
        "limit",
    ),
    *("n_repeats", "temperature", "top_p", "max_tokens"),
)
"""Columns of `evaluations` that alter results, and are short enough to be shown."""
_PINS = (
    *_SETTINGS,
    *("model_source", "model_sha256", "served_json", "answers_key", "versions_json", "environment_sha256"),
    *("task_sha256", "datasets_json", "parameters_json"),
)
"""All columns of `evaluations` that alter results."""
_SCORE = ("metric", "value", "harness_value", "se", "ci_lo", "ci_hi", "n_items", "n_unanswered")
"""Columns of `metrics` that are kept."""


@dataclass(frozen=True)
class PastEvaluation:
    """One evaluation that ended well."""

    model: str
    benchmark: str
    key: str
    """Hash of all that alters results."""
    shown: bool
    """Whether tables and report show it; else another has taken its place, or the config leaves it out."""
    ended_at: str
    """ISO, UTC."""
    metric: str | None
    value: float | None
    harness_value: float | None
    ci_lo: float | None
    ci_hi: float | None
    n: int | None
    model_revision: str | None
    environment_sha256: str | None
    """Of the harness: its lock, or its image's digest."""
    config_sha256: str | None
    slurmeval_version: str | None
    workflow_commit: str | None
    differs: tuple[str, ...] = ()
    """In what it differs from the one that is shown for this model and benchmark."""


def keep(paths: Paths, model: str, benchmark: str) -> None:
    """Writes down an evaluation whose partition has just been written."""
    row = evaluation_row(paths.evaluation(model, benchmark))
    metrics = read_rows(paths.metrics(model, benchmark), schema.METRICS).to_pylist()
    key = key_of(row)
    write_json(paths.past_evaluation(model, benchmark, key), {"format": _FORMAT} | _record(row, metrics))


def key_of(row: Row) -> str:
    """Returns a hash of all that alters results, of a row of `evaluations`."""
    return sha256_of_json({name: row[name] for name in _PINS if row.get(name) is not None})[:16]


def past_evaluations(
    results: Path, models: Sequence[str] = (), benchmarks: Sequence[str] = ()
) -> list[PastEvaluation]:
    """Returns all evaluations that ended well, by model and benchmark, the latest first.

    Args:
        results: The results folder, or the project folder that holds it as `results`.
        models: Ids of models; none: all.
        benchmarks: Ids of benchmarks; none: all.

    Raises:
        UserError: There are no results, or nothing is known of a model or benchmark.
        SchemaDrift: The tables are of another version.
    """
    results = frames.results_folder(results)
    current = {_place(record): record for record in _current(results)}
    found = {_place(record): record for record in _kept(results)} | current
    for names, column in ((models, 0), (benchmarks, 1)):
        known = list(dict.fromkeys(place[column] for place in found))
        for name in names:
            if name not in known:
                what = ("model", "benchmark")[column]
                raise UserError(f"unknown {what} '{name}'; {results} has: {', '.join(known) or 'none'}")
    shown = {place[:2]: found[place]["evaluation"] for place in current}
    past = [
        replace(
            _past(place, record, place in current),
            differs=tuple(_differences(record["evaluation"], shown.get(place[:2]))),
        )
        for place, record in found.items()
        if (not models or place[0] in models) and (not benchmarks or place[1] in benchmarks)
    ]
    past.sort(key=lambda each: each.ended_at, reverse=True)
    return sorted(past, key=lambda each: (each.model, each.benchmark))


def _record(row: Row, metrics: Sequence[Row]) -> dict[str, Any]:
    primary = next((metric for metric in metrics if metric["is_primary"]), None)
    plain = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
    return {"evaluation": plain, "score": primary and {name: primary[name] for name in _SCORE}}


def _kept(results: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(Paths.of_results(results).history.glob("*/*/*.json")):
        record = read_record(path) or {}
        if record.get("format") == _FORMAT and isinstance(record.get("evaluation"), dict):
            yield record


def _current(results: Path) -> Iterator[dict[str, Any]]:
    metrics: dict[tuple[str, str], list[Row]] = {}
    for row in frames.read_combined("metrics", results).to_pylist():
        metrics.setdefault((row["model"], row["benchmark"]), []).append(row)
    for row in (
        frames.read_combined("evaluations", results).select(schema.EVALUATIONS.schema.names).to_pylist()
    ):
        if row["status"] == "ok":
            yield _record(row, metrics.get((row["model"], row["benchmark"]), []))


def _place(record: Mapping[str, Any]) -> tuple[str, str, str]:
    row = record["evaluation"]
    return row["model"], row["benchmark"], key_of(row)


def _past(place: tuple[str, str, str], record: Mapping[str, Any], shown: bool) -> PastEvaluation:
    row, score = record["evaluation"], record.get("score") or {}
    return PastEvaluation(
        *place,
        shown=shown,
        ended_at=row.get("ended_at") or "",
        metric=score.get("metric"),
        value=score.get("value"),
        harness_value=score.get("harness_value"),
        ci_lo=score.get("ci_lo"),
        ci_hi=score.get("ci_hi"),
        n=score.get("n_items"),
        model_revision=row.get("model_revision"),
        environment_sha256=row.get("environment_sha256"),
        config_sha256=row.get("config_sha256"),
        slurmeval_version=row.get("slurmeval_version"),
        workflow_commit=row.get("workflow_commit"),
    )


def _differences(row: Row, shown: Row | None) -> Iterator[str]:
    """Yields in what an evaluation differs from the one that is shown, with its own values where short."""
    if shown is None:
        return
    for name in _PINS:
        if row.get(name) == shown.get(name):
            continue
        value = row.get(name)
        if name in _SETTINGS:
            yield f"{name} {'the default' if value is None else str(value)[:12]}"
        else:
            yield name.removesuffix("_json").removesuffix("_sha256")
