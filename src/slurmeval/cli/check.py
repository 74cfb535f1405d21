"""`slurmeval check`: a config, without a run."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurmeval.cli.naming import configfile_option, results_option
from slurmeval.wording import counted

if TYPE_CHECKING:
    from slurmeval.config.models import Config

DEFAULT_CONFIG = Path("config/config.yaml")


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@configfile_option
@results_option
def check(files: tuple[Path, ...], configfiles: tuple[Path, ...], results: Path | None) -> None:
    """Checks config files and says what they mean.

    Several FILES are laid over one another, as Snakemake does with --configfile; none: config/config.yaml.
    """
    config = checked([*files, *configfiles] or [DEFAULT_CONFIG], results)
    models = config.evaluated_models
    suites = {name: config.suites[name] for name in config.evaluate.suites}
    benchmarks = config.planned_benchmarks
    evaluations = config.evaluations
    without = len(models) * len(benchmarks) - len(evaluations)
    less = f" − {without}" if without else ""
    click.echo(
        f"{counted(len(models), 'model')} × {counted(len(benchmarks), 'benchmark')}{less} = "
        f"{counted(len(evaluations), 'evaluation')}; results in {config.results}"
    )
    for left_out, name in itertools.product(models, benchmarks):
        if (why := config.not_judged(left_out, name)) is not None:
            click.echo(f"  left out: {left_out} on {name}: {why}")
    for name in config.served_models:
        model = config.models[name]
        wanted = model.source
        source = wanted.repo or wanted.package or wanted.folder or model.served_name or name
        revision = f" at {wanted.revision[:12]}" if wanted.revision else ""
        kind = "model" if name in models else "judge"
        click.echo(f"  {kind} {name}: {source}{revision}, served by {model.server}")
        if config.servers[model.server].tells_its_key:
            click.echo(f"    servers.{model.server}.url is http: others may read the key on its way")
    for name, names in suites.items():
        click.echo(f"  suite {name}: {', '.join(names)}")
    if config.evaluate.benchmarks:
        click.echo(f"  benchmarks: {', '.join(config.evaluate.benchmarks)}")


def checked(files: Sequence[Path], results: Path | None = None, *, data: bool = True) -> Config:
    """Returns the config in `files`, checked against what its harnesses can do.

    Args:
        files: Config files; later ones are laid over earlier ones.
        results: Where results are to lie instead of where the config says.
        data: Whether task files and data of one's own are read, too.

    Raises:
        ConfigError: The config will not do.
    """
    from slurmeval.config.load import load
    from slurmeval.harnesses import model_problems, problems
    from slurmeval.harnesses.early import config_problems

    overrides = {} if results is None else {"results": str(results)}
    return load(
        files,
        overrides,
        check_benchmark=problems,
        check_pair=model_problems,
        check_config=config_problems if data else None,
    )
