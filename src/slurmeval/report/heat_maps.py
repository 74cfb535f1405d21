"""Heat maps of activation patching: layers against positions or heads."""

from __future__ import annotations

from typing import Any

from slurmeval.report.chart import Chart, counted, drawn, look
from slurmeval.results.patching import PatchedCell, PatchedSite

COLOURS = ("#b5532a", "#efece6", "#2b6cb8")
"""Of -1, 0 and 1: a patch that works against the answer, does nothing, recovers all."""
MAX_PLACES = 60
_CELL_PX = 15


def heat_map(patched: PatchedSite) -> Chart | None:
    """Returns the heat map of a site; None: it cannot be drawn.

    Of more than `MAX_PLACES` places, the last are shown.
    """
    places = patched.places[-MAX_PLACES:]
    shown = [cell for cell in patched.cells if cell.place in places]
    layers = sorted({cell.layer for cell in shown})
    axis = {"labelAngle": -40, "domain": False, "ticks": False}
    encoding: dict[str, Any] = {
        "x": {"field": "place", "type": "nominal", "sort": places, "title": None, "axis": axis},
        "y": {"field": "layer", "type": "ordinal", "sort": "descending", "title": "layer"},
        "color": {
            "field": "mean",
            "type": "quantitative",
            "title": "recovered",
            "scale": {"domain": [-1, 0, 1], "range": list(COLOURS), "clamp": True},
            "legend": {"orient": "right", "gradientLength": 100},
        },
        "description": {"field": "said", "type": "nominal"},
    }
    svg = drawn(
        {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "data": {"values": [_row(cell) for cell in shown]},
            "width": {"step": max(_CELL_PX, min(44, 620 // len(places)))},
            "height": {"step": _CELL_PX},
            "background": None,
            "padding": {"left": 24, "top": 4, "right": 24, "bottom": 4},
            "mark": {"type": "rect"},
            "encoding": encoding,
            "config": look(),
        }
    )
    label = f"Recovered fraction by patching {patched.site}: {counted(len(layers), 'layer')}"
    return None if svg is None else Chart(svg, label, 0)


def _row(cell: PatchedCell) -> dict[str, object]:
    interval = "" if cell.low is None else f", 95 % interval {cell.low:.2f} to {cell.high:.2f}"
    said = f"layer {cell.layer}, {cell.place}: {cell.mean:.2f}{interval}"
    return {"layer": cell.layer, "place": cell.place, "mean": round(cell.mean, 4), "said": said}
