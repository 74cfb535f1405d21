"""`slurmeval anchors`: a few questions of a benchmark that stand for all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurmeval.cli.lean import lean
from slurmeval.cli.naming import about_results
from slurmeval.cli.scores import printable
from slurmeval.cli.suites import benchmark_options, wanted
from slurmeval.errors import UserError
from slurmeval.progress import to_stderr

if TYPE_CHECKING:
    from slurmeval.results.anchors import AnchorSet


@click.command()
@benchmark_options
@click.option("--size", type=click.IntRange(1), default=100, show_default=True, help="Questions to choose.")
@click.option(
    "--also",
    "more",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Another results folder, for more models; may be given several times.",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Writes each benchmark's anchors to FOLDER/<benchmark>.json.",
    metavar="FOLDER",
)
@about_results
def anchors(
    benchmarks: tuple[str, ...],
    suites: tuple[str, ...],
    size: int,
    more: tuple[Path, ...],
    to: Path | None,
    results: Path,
) -> int:
    """Finds a few questions that stand for all of a benchmark.

    They are chosen from the answers of the models in the results: a two-parameter model says how hard each
    question is and how sharply it tells models apart. Each model is then left out, and its score told from
    its answers to questions that the others chose: the error says how far the anchors are to be trusted.
    docs/deciding.md says how to use them.
    """
    lean()
    from slurmeval.results import anchors as found_in

    folders = [results, *more]
    for benchmark in wanted(results, benchmarks, suites) or found_in.benchmarks_of(folders):
        to_stderr(f"fitting {printable(benchmark)} …")
        try:
            found = found_in.find(folders, benchmark, size)
        except UserError as error:
            if benchmarks:
                raise
            click.echo(printable(str(error)))
            continue
        click.echo(printable(told(found)))
        if to is not None:
            found_in.write(found, to / f"{benchmark}.json")
    return 0


def told(found: AnchorSet) -> str:
    """Returns what a benchmark's anchors are worth, in a line for the terminal."""
    asked = f"{found.size:,} of {len(found.questions):,} questions"
    checked = f"leaving each of {len(found.models)} models out, at most {100 * found.largest:.1f}"
    chance = f"as many random ones: ± {100 * found.random_error:.1f}"
    told_to = f"{found.benchmark} ({found.metric}) to ± {100 * found.error:.1f} points"
    line = f"{asked} tell {told_to} ({checked}); {chance}"
    if found.error >= found.random_error:
        line += ": no better"
    if found.others:
        line += f"; too few answers: {', '.join(found.others)}"
    return line
