"""`slurmeval export`: results in the files of another program."""

from __future__ import annotations

from pathlib import Path

import click

from slurmeval.cli.naming import about_results
from slurmeval.results.exports import formats


@click.command()
@click.option("--to", "format_name", required=True, type=click.Choice(formats()), help="The format.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The folder to write to.  [default: exports/FORMAT in the results' folder]",
)
@click.option("--model", "models", multiple=True, help="Only this one; may be given several times.")
@click.option("--benchmark", "benchmarks", multiple=True, help="Only this one; may be given several times.")
@about_results
def export(
    format_name: str, out: Path | None, models: tuple[str, ...], benchmarks: tuple[str, ...], results: Path
) -> None:
    """Writes results in the files of another program.

    Reads the results' folder alone: no server, no network. Every file appears whole. What was left out is
    said on stderr. docs/exporting.md says what each format holds.
    """
    from slurmeval.cli.scores import printable
    from slurmeval.results.exporting import export as exported

    written = exported(format_name, results, out, models, benchmarks)
    click.echo(f"{written.folder}: {len(written.files):,} file{'' if len(written.files) == 1 else 's'}")
    for remark in written.remarks:
        click.echo(printable(remark), err=True)
