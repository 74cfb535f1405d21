"""What it cost: the servers' time by model and benchmark, throughput over time, score against cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurmeval.report import plots, throughput
from slurmeval.report.material import ReportSection
from slurmeval.report.usage import usage

if TYPE_CHECKING:
    from slurmeval.report.material import Material
    from slurmeval.report.usage import Usage

MAX_EACH = 12
"""Models of which the time of each benchmark is shown; of more it is on their pages."""


def section(material: Material) -> ReportSection | None:
    """Returns the section; None: no server has run."""
    run = material.run
    if not run.servers:
        return None
    used = usage(run)
    ended = run.of_status("ok")
    over_time = {
        model: found
        for model in run.models
        if (found := throughput.of_model(material.paths, [row for row in ended if row["model"] == model]))
    }
    values = {
        "usage": used,
        "on_slurm": material.on_slurm,
        "tails": {model: each.tail_s for model, each in over_time.items()},
        "each": list(used.models) if len(used.models) <= MAX_EACH else [],
        "throughput": plots.throughput(over_time),
        "against": plots.score_against_cost(_costs(material, used), used.has_gpus),
    }
    return ReportSection("cost", "GPU time" if used.has_gpus else "Server time", values)


def _costs(material: Material, used: Usage) -> list[tuple[str, float, float]]:
    """Returns each model's cost in seconds and its mean score, or its score on the only benchmark."""
    board = material.board
    found = []
    for model in material.run.models:
        standing = board and board.standing(model)
        score = standing.mean if standing else None
        if not standing and len(material.run.benchmarks) == 1:
            score = material.run.scores[model, material.run.benchmarks[0]].value
        if score is not None and model in used.models:
            found.append((model, used.models[model].whole_s, score))
    return found
