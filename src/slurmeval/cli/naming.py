"""How all commands are told which config and which results they are about."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from slurmeval.errors import UserError

CONFIGFILE = "--configfile"
RESULTS = Path("results")
_ENDINGS = (".yaml", ".yml", ".json")

configfile_option = click.option(
    CONFIGFILE,
    "configfiles",
    multiple=True,
    metavar="FILE...",
    type=click.Path(path_type=Path),
    help="The config, as Snakemake takes it; several are laid over one another.",
)
results_option = click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    help="The results' folder.  [default: the config's]",
)


def spread(arguments: Sequence[str]) -> list[str]:
    """Returns `--configfile a.yaml b.yaml` in the form that click takes: the option before each file.

    Snakemake takes several files after one option, and so do these commands.
    """
    found: list[str] = []
    after: str | None = None
    for argument in arguments:
        further = after is not None and after != CONFIGFILE and argument.endswith(_ENDINGS)
        found += [CONFIGFILE, argument] if further else [argument]
        if argument == CONFIGFILE:
            after = CONFIGFILE
        elif after == CONFIGFILE or further:
            after = argument
        else:
            after = None
    return found


def about_results(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options --configfile and --results.

    It is called with `results`: the folder given, else the config's, else `results`.
    """

    @configfile_option
    @results_option
    @functools.wraps(command)
    def named(*args: Any, configfiles: tuple[Path, ...], results: Path | None, **kwargs: Any) -> Any:
        if results is not None:
            require_results(results)
        place = results or results_of(configfiles)
        try:
            return command(*args, results=place, **kwargs)
        except UserError as error:
            unnamed = results is None and not configfiles and not (place / "evaluations.parquet").exists()
            if unnamed and (near := others(place)):
                text = f"{error}; something has run in {', '.join(near[:3])}: name it with --results"
                raise UserError(text) from None
            raise

    return named


def results_of(configfiles: Sequence[Path]) -> Path:
    """Returns the results' folder of a config; without one `results`. Raises ConfigError."""
    if not configfiles:
        return RESULTS
    from slurmeval.config.load import load

    return Path(load(configfiles).results)


def require_results(folder: Path) -> None:
    """Raises UserError where a folder that the user named is not there."""
    if not folder.is_dir():
        near = others(folder)
        hint = f"; something has run in {', '.join(near[:3])}" if near else ""
        raise UserError(f"--results {folder}: no such folder{hint}")


def others(results: Path) -> list[str]:
    """Returns folders in `results`, or beside it with a like name, in which something has run."""
    return sorted(str(folder) for folder in _with_runs(results) if folder != results)


def _with_runs(results: Path) -> Iterator[Path]:
    for pattern in (f"{results.name}*/state/runs", f"{results.name}/*/state/runs"):
        for runs in results.parent.glob(pattern):
            if any(runs.glob("*.json")):
                yield runs.parent.parent
