"""`slurmeval verify` and `slurmeval prune`: what lies on the disk, between runs."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--results", default="results", type=click.Path(path_type=Path), help="Where results lie.")
@click.option("--full", is_flag=True, help="Also hash every file (about a second per GB).")
def verify(results: Path, full: bool) -> int:
    """Checks staged weights and datasets against their manifests.

    Sizes only, unless --full. Exits with 1 where something is missing or differs."""
    from slurmeval.staging.manifest import verify

    manifests = sorted((results / "staged").glob("*/*.json"))
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
@click.option(
    "--environments", default=".environments", type=click.Path(path_type=Path), help="Where environments lie."
)
def prune(environments: Path) -> None:
    """Removes environments that no lock asks for any more."""
    from slurmeval.runtime.environments import prune

    removed = prune(Path("containers/locks"), environments)
    for folder in removed:
        click.echo(f"removed {folder}")
    if not removed:
        click.echo("Every environment is in use.")
