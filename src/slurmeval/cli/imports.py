"""`slurmeval import-bundles`: results of NeMo Evaluator 0.3 and later, in tables and a report."""

from __future__ import annotations

from pathlib import Path

import click

from slurmeval.errors import UserError
from slurmeval.paths import Paths


@click.command("import-bundles")
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...", type=click.Path(path_type=Path))
@click.option(
    "--results",
    default="imported",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where tables and report go, beside those of earlier imports.",
)
@click.option("--model", metavar="ID", help="The model's id. Default: by the name that was asked for.")
@click.option("--as", "benchmark", metavar="BENCHMARK", help="The benchmark's id, for a single bundle.")
def import_bundles(
    folders: tuple[Path, ...], results: Path, model: str | None, benchmark: str | None
) -> None:
    """Imports results of NeMo Evaluator 0.3 and later (`nel`).

    FOLDER is what `nel eval run` wrote, or one eval-*.json of it. Nothing is written unless all of it can be
    read. The same bundle may be imported again.
    """
    from slurmeval.evaluation.import_bundles import import_bundles
    from slurmeval.report.build import build_imported

    root = results.absolute()
    paths = Paths.of_results(root)
    try:
        for each in import_bundles(paths, folders, model, benchmark):
            name, count = f"{each.model} on {each.benchmark}", len(each.bundle.output.samples)
            click.echo(f"{name}: {count} samples" if each.new else f"{name}: was there already")
        click.echo(f"report: {build_imported(paths, Path.cwd())}")
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from error
