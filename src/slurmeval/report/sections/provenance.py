"""Every pin: versions, images, weights, data, settings; and what differs between models and evaluations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slurmeval.errors import UserError
from slurmeval.report.material import ReportSection
from slurmeval.results import exporting
from slurmeval.results.history import past_evaluations

if TYPE_CHECKING:
    from slurmeval.report.material import Material
    from slurmeval.report.tables import Row, Tables

_PINS = (
    *("harness", "harness_version", "versions_json", "environment_sha256", "task", "task_version"),
    *("task_sha256", "datasets_json", "endpoint", "parameters_json", "slurmeval_version", "workflow_commit"),
    "config_sha256",
)
"""Columns of `evaluations` that two models' evaluations of one benchmark should have alike, with settings."""
_SHORT = 16
MAX_ROWS = 500


@dataclass(frozen=True)
class Pins:
    """What evaluations of one benchmark were run with."""

    benchmark: str
    models: tuple[str, ...]
    """Of which this holds; empty: of all."""
    settings: str
    values: Mapping[str, str]


def section(material: Material) -> ReportSection:
    """Returns the section."""
    run = material.run
    values = {
        "info": material.info,
        "harnesses": _harness_versions(run),
        "staged": material.staged,
        "config": material.shown_config,
        "models": _models(run),
        "pins": [*_pins(run)][:MAX_ROWS],
        "differing": _differing(run),
        "n_earlier": _n_earlier(material),
    }
    return ReportSection("provenance", "Provenance", values)


def _harness_versions(run: Tables) -> list[tuple[str, str, str, int]]:
    """Returns harness, its version, versions of its packages, and how many evaluations it ran."""
    counts: dict[tuple[str, str, str], int] = {}
    for row in run.of_status("ok"):
        key = (row["harness"] or "", row["harness_version"] or "", row["versions_json"] or "{}")
        counts[key] = counts.get(key, 0) + 1
    return [(*key, count) for key, count in sorted(counts.items())]


def _models(run: Tables) -> tuple[list[str], dict[str, dict[str, str]], list[tuple[str, str]]]:
    """Returns how models were served: names of what differs, its values by model, and what all have alike."""
    known: dict[str, dict[str, str]] = {}
    for row in run.of_status("ok"):
        own = {
            "source": row["model_source"],
            "revision": row["model_revision"],
            "sha256": row["model_sha256"],
        }
        own |= dict(_flat("", exporting.served(row)))
        known.setdefault(row["model"], {name: str(value) for name, value in own.items() if value is not None})
    names = list(dict.fromkeys(name for each in known.values() for name in each))
    alike = {name for name in names if len({each.get(name) for each in known.values()}) == 1}
    if len(known) < 2:
        alike = set()
    shared = [(name, next(iter(known.values()))[name]) for name in names if name in alike]
    return [name for name in names if name not in alike], known, shared


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), each)
    elif value is not None and value not in ("", [], ()):
        yield prefix, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _pins(run: Tables) -> Iterator[Pins]:
    """Yields what each benchmark was run with, once for all models of which it is the same."""
    for benchmark in run.benchmarks:
        rows = [row for row in run.of_status("ok") if row["benchmark"] == benchmark]
        groups: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            groups.setdefault((exporting.settings(row), *(_said(row, name) for name in _PINS)), []).append(
                row
            )
        for (settings, *values), own in groups.items():
            models = () if len(groups) == 1 else tuple(row["model"] for row in own)
            yield Pins(benchmark, models, settings, dict(zip(map(_title, _PINS), values, strict=True)))


def _differing(run: Tables) -> list[str]:
    """Returns a line for each benchmark and column in which its models' evaluations differ."""
    lines = []
    columns = ("limit", "few_shot", "n_repeats", "temperature", "top_p", "max_tokens", *_PINS)
    for benchmark in run.benchmarks:
        rows = [row for row in run.of_status("ok") if row["benchmark"] == benchmark]
        for name in columns:
            values: dict[str, list[str]] = {}
            for row in rows:
                values.setdefault(_said(row, name) or "the default", []).append(row["model"])
            if len(values) > 1:
                parts = [f"{value} ({exporting.listed(models)})" for value, models in values.items()]
                lines.append(f"{benchmark}: {_title(name)} is {'; '.join(parts)}")
    return lines


def _title(column: str) -> str:
    return column.removesuffix("_json").removesuffix("_sha256").replace("_", " ")


def _said(row: Row, name: str) -> str:
    value = row[name]
    if value is None:
        return ""
    if name.endswith("_sha256") or name == "workflow_commit":
        return str(value)[:_SHORT]
    if name == "datasets_json":
        return _datasets(json.loads(value))
    return str(value)


def _datasets(known: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(
        f"{each['id']} {(each.get('revision') or each.get('sha256') or '')[:_SHORT]}" for each in known
    )


def _n_earlier(material: Material) -> int:
    """Returns how many evaluations are kept that others have taken the place of."""
    try:
        return sum(not each.shown for each in past_evaluations(material.paths.results))
    except UserError:
        return 0
