"""Charts of cost: throughput over time, and score against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from slurmeval.report.chart import COLOURS, MAX_MODELS, Chart, counted, drawn, look

if TYPE_CHECKING:
    from slurmeval.report.throughput import Throughput

MIN_POINTS = 2
MAX_POINTS = 60
_MS = 1000


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
        "x": {"field": "time", "type": "temporal", "title": "time (UTC)", "scale": {"type": "utc"}},
        "y": {
            "field": "rate",
            "type": "quantitative",
            "title": "generated tokens/s",
            "axis": {"tickCount": 4},
        },
        "color": _colours([*shown][:MAX_MODELS]),
    }
    svg = drawn(_spec(rows, 140, [{"mark": {"type": "line", "strokeWidth": 1.5}, "encoding": encoding}]))
    label = f"Generated tokens per second over time: {counted(len(shown), 'model')}"
    return None if svg is None else Chart(svg, label, max(0, len(shown) - MAX_MODELS))


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
    svg = drawn(_spec(rows, 220, layers))
    label = f"Score against {title}: {counted(len(shown), 'model')}"
    return None if svg is None else Chart(svg, label, len(costs) - len(shown))


def _colours(models: list[str]) -> dict[str, Any]:
    scale = {"domain": models, "range": list(COLOURS[: len(models)])}
    legend = {"orient": "top", "title": None, "columns": 4, "columnPadding": 36}
    kind = {"field": "model", "type": "nominal", "sort": models, "scale": scale}
    return kind | {"legend": legend if len(models) > 1 else None}


def _spec(rows: Sequence[Mapping[str, Any]], height: int, layers: list[dict[str, Any]]) -> dict[str, object]:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "data": {"values": list(rows)},
        "width": 680,
        "height": height,
        "background": None,
        "padding": {"left": 24, "top": 4, "right": 140, "bottom": 4},
        "layer": layers,
        "config": look(),
    }
