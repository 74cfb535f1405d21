"""A report is written where its charts cannot be drawn."""

from __future__ import annotations

import subprocess
import sys

CODE = """
from slurmeval.report.chart import drawn
spec = {"$schema": "https://vega.github.io/schema/vega-lite/v5.json", "mark": "bar"}
spec["data"] = {"values": [{"a": 1}]}
for _ in range(2):
    svg = drawn({**spec, "encoding": {"x": {"field": "a", "type": "quantitative"}}})
    print("none" if svg is None else svg[:4])
"""


def drawn(limit: str) -> subprocess.CompletedProcess[str]:
    argv = ["bash", "-c", f'{limit}exec "$@"', "bash", sys.executable, "-c", CODE]
    return subprocess.run(argv, capture_output=True, text=True, check=True)


def test_what_draws_charts_may_die_of_a_limit_on_address_space() -> None:
    ran = drawn("ulimit -v 33554432; ")
    assert ran.stdout.split() == ["none", "none"]
    assert ran.stderr.count("the report has no chart") == ran.stderr.count("\n") == 1


def test_charts_are_drawn() -> None:
    ran = drawn("")
    assert (ran.stdout.split(), ran.stderr) == (["<svg", "<svg"], "")
