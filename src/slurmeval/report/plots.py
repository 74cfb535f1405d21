"""Charts of cost: throughput over time, and score against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from slurmeval.report.chart import COLOURS, MAX_MODELS, Chart, chart_of, framed
from slurmeval.wording import counted

if TYPE_CHECKING:
    from slurmeval.report.throughput import Throughput

MIN_POINTS = 2
MAX_POINTS = 60
_MS = 1000
_LABEL_PX = 140
"""Room for a model's name beside the last point."""


def throughput(models: Mapping[str, Throughput]) -> Chart | None:
    """Returns a chart of generated tokens per second over time, a line for each model; None: no tokens."""
    shown = {model: each for model, each in models.items() if each.tokens_per_s.any()}
    rows = [
        {
            "model": model,
            "time": (each.begin_s + (number + 0.5) * each.span_s) * _MS,
            "rate": float(f"{rate:.4g}"),
        }
        for model, each in [*shown.items()][:MAX_MODELS]
        for number, rate in enumerate(each.tokens_per_s)
    ]
    if not rows:
        return None
    encoding: dict[str, Any] = {
        "x": {
            "field": "time",
            "type": "temporal",
            "title": "time (UTC)",
            "scale": {"type": "utc"},
            "axis": {"tickCount": 8, "labelOverlap": True},
        },
        "y": {
            "field": "rate",
            "type": "quantitative",
            "title": "generated tokens/s",
            "axis": {"tickCount": 4},
        },
        "color": _colours([*shown][:MAX_MODELS]),
    }
    marks = {"mark": {"type": "line", "strokeWidth": 1.5}, "encoding": encoding}
    return chart_of(
        framed(rows, 140, marks, right=_LABEL_PX),
        f"Generated tokens per second over time: {counted(len(shown), 'model')}",
        "Generated tokens per second over time, of answers to evaluations that ended well.",
        max(0, len(shown) - MAX_MODELS),
        "model",
    )


def score_against_cost(costs: Sequence[tuple[str, float, float]], gpus: bool) -> Chart | None:
    """Returns a chart of models by cost and score; None: there are fewer than two, or one cost nothing.

    `costs`: model, seconds, score.
    """
    shown = [each for each in costs if each[1] > 0][:MAX_POINTS]
    if len(shown) < MIN_POINTS:
        return None
    unit, seconds = ("hours", 3600) if max(cost for _, cost, _ in shown) >= 3600 else ("minutes", 60)
    title = f"{'GPU' if gpus else 'server'} {unit}"
    rows = [
        {
            "model": model,
            "cost": cost / seconds,
            "score": score,
            "said": f"{model}: {score:.3f} for {cost / seconds:.3g} {title}",
        }
        for model, cost, score in shown
    ]
    at: dict[str, Any] = {
        "description": {"field": "said", "type": "nominal"},
        "x": {"field": "cost", "type": "quantitative", "title": title, "axis": {"tickCount": 6}},
        "y": {
            "field": "score",
            "type": "quantitative",
            "title": "score",
            "scale": {"zero": False, "padding": 20},
        },
    }
    point = {"type": "point", "filled": True, "size": 64, "opacity": 1, "color": COLOURS[0]}
    text = {"type": "text", "align": "left", "dx": 8, "fill": "currentColor", "fontSize": 12, "limit": 200}
    layers = [
        {"mark": point, "encoding": at},
        {"mark": text, "encoding": at | {"text": {"field": "model", "type": "nominal"}}},
    ]
    return chart_of(
        framed(rows, 220, {"layer": layers}, right=_LABEL_PX),
        f"Score against {title}: {counted(len(shown), 'model')}",
        "Each model's mean score (with one benchmark: its score) against what its servers took.",
        len(costs) - len(shown),
        "model",
    )


def _colours(models: list[str]) -> dict[str, Any]:
    scale = {"domain": models, "range": list(COLOURS[: len(models)])}
    legend = {"orient": "top", "title": None, "columns": 4, "columnPadding": 36}
    kind = {"field": "model", "type": "nominal", "sort": models, "scale": scale}
    return kind | {"legend": legend if len(models) > 1 else None}
