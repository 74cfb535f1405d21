"""`slurmeval verify` and `slurmeval prune`: what lies on the disk, between runs."""

from __future__ import annotations

from pathlib import Path

import click

from slurmeval.cli.naming import about_results, configfile_option

_LOCKS = Path("containers/locks")


@click.command()
@about_results
@click.option("--full", is_flag=True, help="Also hash every file (about a second per GB).")
def verify(results: Path, full: bool) -> int:
    """Checks staged weights and datasets against their manifests.

    Sizes only, unless --full. Exits with 1 where something is missing or differs.
    """
    from slurmeval.staging.manifest import verify

    kinds = ("models", "datasets", "benchmarks")  # those of tokenizers list no files
    manifests = [file for kind in kinds for file in sorted((results / "staged" / kind).glob("*.json"))]
    if not manifests:
        click.echo(f"Nothing is staged for {results}.")
    problems = 0
    for manifest in manifests:
        found = verify(manifest, full)
        problems += len(found)
        kind = manifest.parent.name.removesuffix("s")
        for line in found or ["ok"]:
            click.echo(f"{kind} {manifest.stem}: {line}")
    if problems:
        click.echo("Delete the files named above and the manifest; the next run stages them again.", err=True)
    return 1 if problems else 0


@click.command()
@configfile_option
@click.option(
    "--environments",
    type=click.Path(path_type=Path),
    help="Where environments lie.  [default: as the config says, else .environments]",
)
@click.option(
    "--results",
    multiple=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="A results folder whose runs may use them; those in this folder are looked at anyway.",
)
@click.option("--cache", is_flag=True, help="Empty the package cache, too: packages are fetched again.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def prune(
    configfiles: tuple[Path, ...],
    environments: Path | None,
    results: tuple[Path, ...],
    cache: bool,
    dry_run: bool,
) -> None:
    """Removes environments that no lock and no live run uses.

    Also what the package cache cannot use any more. Run it in the project folder.
    """
    from slurmeval.cli.in_use import in_use, require_project, shown
    from slurmeval.environments.environments import prune, prune_packages
    from slurmeval.project_files import environment_locks

    require_project(_LOCKS)
    if configfiles:
        from slurmeval.config.load import load

        config = load(configfiles)
        environments = environments or Path(config.staging.environments)
        results = (*results, *filter(Path.is_dir, [Path(config.results)]))
    environments = environments or Path(".environments")
    locks = environment_locks(Path.cwd()).values()
    removed = prune(locks, environments, in_use(results), dry_run)
    for folder in removed:
        click.echo(f"{'would remove' if dry_run else 'removed'} {shown(folder)}")
    if not removed:
        click.echo("Every environment is in use.")
    freed = None if dry_run else prune_packages(environments, cache)
    if freed is not None:
        click.echo(f"package cache: {freed}")
