"""Which benchmarks tell models apart by more than one model moves from checkpoint to checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slurmeval.errors import UserError
from slurmeval.results import frames
from slurmeval.results.comparison import ended_well, primary_metrics
from slurmeval.statistics.irt import signal_to_noise


@dataclass(frozen=True)
class Signal:
    """One benchmark."""

    benchmark: str
    metric: str
    low: float | None = None
    """The lowest score of the models."""
    high: float | None = None
    checkpoints: tuple[float, float] | None = None
    """The lowest and the highest score of the checkpoints."""
    ratio: float | None = None
    """Signal to noise; None: `reason`."""
    reason: str | None = None


def signals(
    results: Path, checkpoints: Sequence[str], models: Sequence[str] = (), benchmarks: Sequence[str] = ()
) -> list[Signal]:
    """Returns the signal and noise of each benchmark, the clearest one first.

    Args:
        results: The results folder, or the project folder.
        checkpoints: The last checkpoints of one model, two or more.
        models: Models to be told apart; none: all others.
        benchmarks: Benchmarks' ids; none: all.

    Raises:
        UserError: A name is unknown, or a model is named as both.
        SchemaDrift: The results are of another version.
    """
    results = frames.results_folder(results)
    ended = ended_well(results)
    known = {
        "model": list(dict.fromkeys(m for m, _ in ended)),
        "benchmark": list(dict.fromkeys(b for _, b in ended)),
    }
    for kind, names in (("model", (*checkpoints, *models)), ("benchmark", benchmarks)):
        for name in names:
            if name not in known[kind]:
                there = ", ".join(known[kind]) or "none"
                raise UserError(f"unknown {kind} '{name}'; with results in {results}: {there}")
    if both := [name for name in models if name in checkpoints]:
        raise UserError(f"'{both[0]}' is named as a checkpoint and as a model")
    others = [name for name in models or known["model"] if name not in checkpoints]
    primary = primary_metrics(results)

    def scores(names: Sequence[str], benchmark: str) -> list[float]:
        rows = [primary[name, benchmark] for name in dict.fromkeys(names) if (name, benchmark) in primary]
        values = [row["harness_value"] if row["value"] is None else row["value"] for row in rows]
        return [value for value in values if value is not None]

    metrics = {benchmark: row["metric"] for (_, benchmark), row in primary.items()}
    found = [
        _signal(each, metrics.get(each, ""), scores(others, each), scores(checkpoints, each))
        for each in benchmarks or known["benchmark"]
    ]
    return sorted(found, key=lambda each: -1.0 if each.ratio is None else each.ratio, reverse=True)


def _signal(benchmark: str, metric: str, models: Sequence[float], checkpoints: Sequence[float]) -> Signal:
    import numpy as np

    try:
        ratio = signal_to_noise(np.array(models), np.array(checkpoints))
    except ValueError:
        scored = f"{len(models)} models and {len(checkpoints)} checkpoints have a score"
        return Signal(benchmark, metric, reason=f"{scored}; two of each are needed, with means other than 0")
    ends = min(checkpoints), max(checkpoints)
    return Signal(benchmark, metric, min(models), max(models), ends, ratio)
