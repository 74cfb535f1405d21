"""`slurmeval preview`: questions of one's own, as they are asked."""

from __future__ import annotations

from pathlib import Path

import click

from slurmeval.cli.check import DEFAULT_CONFIG
from slurmeval.cli.naming import configfile_option
from slurmeval.cli.scores import printable


@click.command()
@click.argument("benchmark")
@configfile_option
@click.option("--limit", type=click.IntRange(1), default=5, show_default=True, help="Most questions to show.")
def preview(benchmark: str, configfiles: tuple[Path, ...], limit: int) -> None:
    """Shows the prompts of a benchmark of one's own.

    All questions are read first, so a line that will not do is named. Below each prompt stands what is right.
    """
    from slurmeval.cli.check import checked
    from slurmeval.config.messages import nearest
    from slurmeval.errors import UserError
    from slurmeval.harnesses.custom.questions import file_of, read

    config = checked(configfiles or (DEFAULT_CONFIG,))
    entry = config.benchmarks.get(benchmark)
    if entry is None:
        raise UserError(f"unknown benchmark '{benchmark}'; {nearest(benchmark, config.benchmarks)}")
    if entry.questions is None:
        raise UserError(f"{benchmark}: is of the harness {entry.harness}; only those of custom are shown")
    folder = config.datasets[entry.datasets[0]].folder
    if folder is None:
        raise UserError(f"datasets.{entry.datasets[0]}: only questions in a folder are shown before a run")
    questions = read(entry.questions, file_of(entry.questions, Path(folder)), entry.limit)
    for question in questions[:limit]:
        category = "" if question.category is None else f", {printable(question.category)}"
        click.echo(f"── {printable(question.id)}{category}")
        for title, text in (("system", question.system), ("prompt", question.prompt)):
            for place, line in enumerate(() if text is None else text.splitlines() or [""]):
                click.echo(f"{title if not place else '':>9} │ {printable(line)}")
        click.echo(f"{'right':>9} │ {printable(' | '.join(question.references))}")
    click.echo(f"{len(questions)} questions; scored by {', '.join(entry.questions.scorers)}")
