"""Heat maps of activation patching: layers against positions or heads."""

from __future__ import annotations

from typing import Any

from slurmeval.report.chart import Chart, chart_of, framed
from slurmeval.results.patching import PatchedCell, PatchedSite
from slurmeval.wording import counted

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
    width = {"step": max(_CELL_PX, min(44, 620 // len(places)))}
    marks = {"mark": {"type": "rect"}, "encoding": encoding}
    rows = [_row(cell) for cell in shown]
    label = f"Recovered fraction by patching {patched.site}: {counted(len(layers), 'layer')}"
    caption = f"Recovered by patching {patched.site}."
    return chart_of(framed(rows, {"step": _CELL_PX}, marks, width=width, right=24), label, caption)


def _row(cell: PatchedCell) -> dict[str, object]:
    interval = "" if cell.low is None else f", 95 % interval {cell.low:.2f} to {cell.high:.2f}"
    said = f"layer {cell.layer}, {cell.place}: {cell.mean:.2f}{interval}"
    return {"layer": cell.layer, "place": cell.place, "mean": round(cell.mean, 4), "said": said}
