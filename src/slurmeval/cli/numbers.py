"""Options that take a number within a range."""

from __future__ import annotations

import math
from typing import Any

import click


class Number(click.FloatRange):
    """A number within a range. NaN, which compares with nothing, is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Returns the number; fails as click does on anything else."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return number


min_paired_option = click.option(
    "--min-paired",
    type=Number(0, 1),
    default=0.9,
    show_default=True,
    help="The share of questions that both models must have answered.",
)
