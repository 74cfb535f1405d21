"""The chart of scores: a static SVG in the page. It needs no script, prints, and follows the colours."""

from __future__ import annotations

import atexit
import functools
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slurmeval.report.tables import ScoreCell
from slurmeval.wording import counted

MAX_MODELS = 8
MAX_BENCHMARKS = 30
COLOURS = ("#3b7dd8", "#d0702a", "#2f9870", "#b8549a", "#8f7d22", "#736cd6", "#cb4b55", "#2e93a4")
"""Of models: told apart by the colour-blind, and at least 3:1 on the light and the dark page."""
_ROW_PX = 15


@dataclass(frozen=True)
class Chart:
    """An SVG, with all that the page says of it."""

    svg: str
    label: str
    """What it shows, for those who hear it."""
    caption: str
    """What its marks are, and what it leaves out."""


def chart_of(
    spec: dict[str, object], label: str, caption: str, left_out: int = 0, noun: str = "score", why: str = ""
) -> Chart | None:
    """Returns the chart of a Vega-Lite specification; None if it cannot be drawn.

    `left_out` of what `noun` names are not in it, and `why` says for which reason.
    """
    svg = drawn(spec)
    if left_out:
        caption += f" {counted(left_out, noun)} {'is' if left_out == 1 else 'are'} not drawn{why}."
    return None if svg is None else Chart(svg, label, caption)


def framed(
    rows: Sequence[Mapping[str, object]],
    height: object,
    marks: Mapping[str, object],
    *,
    width: object = 680,
    right: int = 12,
) -> dict[str, object]:
    """Returns a specification: marks on rows, in the frame that all charts of the page have.

    `marks` has `layer`, or `mark` and `encoding`; `right` is the room on that side, in pixels.
    """
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "data": {"values": list(rows)},
        "width": width,
        "height": height,
        "background": None,
        # Text is measured in another font than the page's
        "padding": {"left": 24, "top": 4, "right": right, "bottom": 4},
        **marks,
        "config": look(),
    }


def chart(scores: Sequence[ScoreCell], max_benchmarks: int = MAX_BENCHMARKS) -> Chart | None:
    """Returns a chart of scores of 0 to 1 with their intervals; None if there is nothing to show.

    A row for each benchmark and a colour for each model: the first `MAX_MODELS` models and `max_benchmarks`
    benchmarks. Also None if it cannot be drawn.
    """
    fit = [score for score in scores if score.value is not None and 0 <= score.value <= 1]
    models = list(dict.fromkeys(score.model for score in fit))[:MAX_MODELS]
    benchmarks = list(dict.fromkeys(score.benchmark for score in fit))[:max_benchmarks]
    shown = [score for score in fit if score.model in models and score.benchmark in benchmarks]
    if not shown:
        return None
    sizes = f"{counted(len(benchmarks), 'benchmark')}, {counted(len(models), 'model')}"
    return chart_of(
        _spec(shown, models, benchmarks),
        f"Scores with 95 % intervals: {sizes}; the numbers are in the table",
        "Points are scores, lines their 95 % intervals.",
        len(scores) - len(shown),
        why=" (none yet, outside 0–1, or too many to read): the tables have all",
    )


def drawn(spec: dict[str, object]) -> str | None:
    """Returns the SVG of a Vega-Lite specification, drawn in another process.

    V8, which draws it, reserves hundreds of gigabytes of address space, and fails under `ulimit -v`.
    """
    drawer = _drawer()
    assert drawer.stdin is not None and drawer.stdout is not None
    try:
        drawer.stdin.write(json.dumps(spec) + "\n")
        drawer.stdin.flush()
        answer = drawer.stdout.readline()
    except BrokenPipeError:
        answer = ""
    return json.loads(answer) if answer else _undrawn(drawer)


@functools.cache
def _drawer() -> subprocess.Popen[str]:
    drawer = subprocess.Popen(
        [sys.executable, "-P", "-c", _DRAW],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )
    atexit.register(drawer.communicate)
    return drawer


@functools.cache
def _undrawn(drawer: subprocess.Popen[str]) -> None:
    """Reports once that there are no charts."""
    status = drawer.wait()
    hint = "; drawing needs address space: `ulimit -v unlimited`, or a job" if status < 0 else ""
    print(
        f"slurmeval: the report has no chart: what draws it ended with status {status}{hint}",
        file=sys.stderr,
    )


_DRAW = """
import json, sys, vl_convert
for line in sys.stdin:
    print(json.dumps(vl_convert.vegalite_to_svg(line, allowed_base_urls=[])), flush=True)
"""


def _spec(scores: Sequence[ScoreCell], models: list[str], benchmarks: list[str]) -> dict[str, object]:
    rows = [_row(score) for score in scores]
    x: dict[str, object] = {
        "field": "value",
        "type": "quantitative",
        "scale": {"domain": [0, 1]},
        "title": "score",
    }
    x |= {"axis": {"tickCount": 5, "format": ".1f"}}
    position = {
        "description": {"field": "said", "type": "nominal"},
        "y": {
            "field": "benchmark",
            "type": "nominal",
            "sort": benchmarks,
            "title": None,
            "scale": {"paddingInner": 0.4},
        },
        "yOffset": {"field": "model", "type": "nominal", "sort": models},
        "color": {
            "field": "model",
            "type": "nominal",
            "sort": models,
            "scale": {"domain": models, "range": list(COLOURS[: len(models)])},
            "legend": {"orient": "top", "title": None, "columns": 4, "columnPadding": 36}
            if len(models) > 1
            else None,
        },
    }
    interval = {"x": x | {"field": "lo"}, "x2": {"field": "hi"}}
    point = {"type": "point", "filled": True, "size": 64, "opacity": 1}
    rule = {"type": "rule", "strokeWidth": 2.5, "opacity": 0.75}
    layers = [
        {"mark": rule, "encoding": position | interval},
        {"mark": point, "encoding": position | {"x": x}},
    ]
    return framed(rows, {"step": _ROW_PX if len(models) > 1 else 24}, {"layer": layers})


def _row(score: ScoreCell) -> dict[str, object]:
    return {
        "model": score.model,
        "benchmark": score.benchmark,
        "value": score.value,
        "lo": None if score.ci_lo is None else max(0.0, score.ci_lo),
        "hi": None if score.ci_hi is None else min(1.0, score.ci_hi),
        "said": _said(score),
    }


def _said(score: ScoreCell) -> str:
    """Returns a score for those who hear the chart: not rounded as the axis is."""
    interval = "" if score.ci_lo is None else f", 95 % interval {score.ci_lo:.3f} to {score.ci_hi:.3f}"
    return f"{score.model} on {score.benchmark}: {score.value:.3f}{interval}"


def look() -> dict[str, object]:
    """Returns the SVG with colours that follow the page's text, for light and dark."""
    label = {"labelColor": "currentColor", "labelFontSize": 12, "labelLimit": 260}
    axis = {"labelColor": "currentColor", "domainColor": "currentColor", "tickColor": "currentColor"}
    axis |= {"titleColor": "currentColor"}
    return {
        "font": "sans-serif",
        "view": {"stroke": None},
        "axis": axis | {"gridColor": "currentColor", "gridOpacity": 0.14, "labelFontSize": 12},
        "axisY": {"labelLimit": 260, "labelPadding": 8, "titlePadding": 12, "domain": False, "ticks": False}
        | {"grid": True},
        "legend": label | {"symbolOpacity": 1},
    }
