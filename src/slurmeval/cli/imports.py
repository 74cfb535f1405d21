"""`slurmeval import-bundles` and `import-helm`: results of other programs, in tables and a report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slurmeval.errors import UserError
from slurmeval.paths import Paths

if TYPE_CHECKING:
    from slurmeval.evaluation.import_bundles import Reader


def _options(what: str) -> Callable[[Any], Any]:
    """Returns a decorator with the argument and the options of an import."""
    path = click.Path(path_type=Path)
    decorators = (
        click.argument("folders", nargs=-1, required=True, metavar="FOLDER...", type=path),
        click.option(
            "--results",
            default="imported",
            show_default=True,
            type=click.Path(file_okay=False, path_type=Path),
            help="Where tables and report go, beside those of earlier imports.",
        ),
        click.option(
            "--model", metavar="ID", help="The model's id. Default: by the name that was asked for."
        ),
        click.option(
            "--as", "benchmark", metavar="BENCHMARK", help=f"The benchmark's id, for a single {what}."
        ),
    )

    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


@click.command("import-bundles")
@_options("bundle")
def import_bundles(
    folders: tuple[Path, ...], results: Path, model: str | None, benchmark: str | None
) -> None:
    """Imports results of NeMo Evaluator 0.3 and later (`nel`).

    FOLDER is what `nel eval run` wrote, or one eval-*.json of it. Nothing is written unless all of it can be
    read. The same bundle may be imported again.
    """
    from slurmeval.harnesses import nemo_bundles

    _import(nemo_bundles, folders, results, model, benchmark)


@click.command("import-helm")
@_options("run")
def import_helm(folders: tuple[Path, ...], results: Path, model: str | None, benchmark: str | None) -> None:
    """Imports results of HELM (`helm-run`).

    FOLDER is one run, a suite of them, or `benchmark_output`. Nothing is written unless all of it can be
    read. The same run may be imported again.
    """
    from slurmeval.harnesses import helm_runs

    _import(helm_runs, folders, results, model, benchmark)


def _import(
    reader: Reader, folders: tuple[Path, ...], results: Path, model: str | None, benchmark: str | None
) -> None:
    from slurmeval.evaluation.import_bundles import import_bundles
    from slurmeval.report.build import build_imported

    paths = Paths.of_results(results.absolute())
    try:
        for each in import_bundles(reader, paths, folders, model, benchmark):
            name, count = f"{each.model} on {each.benchmark}", len(each.bundle.output.samples)
            click.echo(f"{name}: {count} samples" if each.new else f"{name}: was there already")
        click.echo(f"report: {build_imported(paths, Path.cwd())}")
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from error
