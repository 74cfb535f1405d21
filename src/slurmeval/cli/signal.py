"""`slurmeval signal`: which benchmarks tell models apart, and not one model's checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurmeval.cli.lean import lean
from slurmeval.cli.naming import about_results
from slurmeval.cli.scores import aligned, printable
from slurmeval.cli.suites import benchmark_options, wanted
from slurmeval.errors import UserError

if TYPE_CHECKING:
    from slurmeval.results.signal import Signal


@click.command()
@click.option(
    "--checkpoint", "checkpoints", multiple=True, help="One of the last checkpoints of one model; several."
)
@click.option(
    "--model", "models", multiple=True, help="A model to be told apart; several.  [default: all others]"
)
@benchmark_options
@about_results
def signal(
    checkpoints: tuple[str, ...],
    models: tuple[str, ...],
    benchmarks: tuple[str, ...],
    suites: tuple[str, ...],
    results: Path,
) -> int:
    """Orders benchmarks by signal and noise over checkpoints.

    Signal is how far the models' scores lie apart, noise how much a model moves over its last checkpoints,
    both relative to their means. A benchmark of little signal for its noise is a poor one to decide by while
    a model is trained.
    """
    lean()
    from slurmeval.results.signal import signals

    if len(checkpoints) < 2:
        raise UserError(
            "--checkpoint: expected two or more, such as --checkpoint ckpt-900 --checkpoint ckpt-1000"
        )
    found = signals(results, checkpoints, models, wanted(results, benchmarks, suites))
    for line in lines(found):
        click.echo(line)
    return 0


def lines(found: Sequence[Signal]) -> Iterator[str]:
    """Yields the benchmarks as lines for a terminal, the clearest one first."""
    table = [["benchmark", "metric", "models", "checkpoints", "signal to noise"]]
    for each in found:
        if each.ratio is not None and each.checkpoints is not None:
            scores = [f"{each.low:.3f}–{each.high:.3f}", "–".join(f"{end:.3f}" for end in each.checkpoints)]
            table.append([each.benchmark, each.metric, *scores, f"{each.ratio:.1f}"])
    if len(table) > 1:
        yield from aligned([[printable(cell) for cell in row] for row in table], len(table[0]))
    for each in found:
        if each.reason is not None:
            yield printable(f"{each.benchmark}: {each.reason}")
