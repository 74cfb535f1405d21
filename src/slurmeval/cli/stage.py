"""`slurmeval stage`: the lock of branches, and carrying what is staged to a site without internet."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurmeval.cli.check import DEFAULT_CONFIG
from slurmeval.progress import to_stderr

if TYPE_CHECKING:
    from slurmeval.config.models import Config
    from slurmeval.planning.plan import Plan
    from slurmeval.planning.runtime_refs import RuntimeRef
    from slurmeval.staging.hub_lock import HubLock
    from slurmeval.staging.repository import Repository

CONFIG = click.option(
    "--configfile",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help=f"The config; several are laid over one another. Default: {DEFAULT_CONFIG}.",
)


@click.group()
def stage() -> None:
    """Resolves branches; carries what is staged to other machines.

    Staging itself is Snakemake's: `snakemake staged --profile … --configfile FILE`.
    """


@stage.command()
@CONFIG
@click.option("--update", is_flag=True, help="Also ask again for branches and tags that have an entry.")
def lock(files: tuple[Path, ...], update: bool) -> None:
    """Writes config/hub.lock.yaml: the commits that branches and tags stand for.

    A run begins once each has an entry. Prints what changed.
    """
    from slurmeval.staging import hub_lock
    from slurmeval.staging.repository import HUB_LOCK

    config, project = _config(files), Path.cwd()
    branches = _branches(config)
    if not branches:
        click.echo("The config names no branch or tag: every repository is at a commit.")
        return
    changes = hub_lock.resolve(project, branches, _hf_home(config), to_stderr, update=update)
    for change in changes:
        click.echo(str(change))
    if not changes:
        click.echo(f"{HUB_LOCK} stays as it is: {len(branches)} branches or tags.")


@stage.command("export")
@CONFIG
def export_(files: tuple[Path, ...]) -> None:
    """Lists what a config needs, for rsync to carry to a machine without internet, and says how.

    All must be staged here: `snakemake staged …` does that. The lists lie in HF_HOME, in slurmeval/export:
    files.txt for `rsync --files-from`, SHA256SUMS for `sha256sum -c`, both relative to HF_HOME.
    """
    from slurmeval.planning.plan import Plan
    from slurmeval.progress import size_text
    from slurmeval.staging.export import FILES, FOLDER, IMAGES, export

    config = _config(files)
    plan = Plan(config, Path.cwd(), _hf_home(config))
    images = [plan.project / place.record for place in _places(plan) if place.kind == "image"]
    environments = [place.name for place in _places(plan) if place.kind == "environment"]
    hf_home = plan.absolute.hf_home
    found = export(_manifests(plan), images, _lock(config), hf_home, to_stderr)
    for line in found.left_out:
        click.echo(f"Not in it, take it along yourself: {line}")
    for name in environments:
        click.echo(
            f"Not in it: the environment {name}. It is made there, from a mirror of the package index."
        )
    click.echo(f"{len(found.files) + len(found.images)} files, {size_text(found.size)}. Bring them over with")
    click.echo(f"  {_rsync(hf_home / FOLDER / FILES, hf_home)} HOST:HF_HOME/")
    if found.images:
        rsync = _rsync(hf_home / FOLDER / IMAGES, plan.absolute.images)
        click.echo(f"  {rsync} HOST:PROJECT/{config.staging.images}/")
    click.echo("(the same again where it was cut off), and there, in the project folder, type")
    click.echo(f"  slurmeval stage import{''.join(f' --configfile {file}' for file in files)}")


def _rsync(listed: Path, source: Path) -> str:
    return shlex.join(["rsync", "-aL", "--partial", f"--files-from={listed}", f"{source}/"])


@stage.command("import")
@CONFIG
def import_(files: tuple[Path, ...]) -> None:
    """Verifies what rsync has carried into HF_HOME by the lists of an export, so that staging finds it.

    It may be started again at any time, and reads only what was touched since.
    """
    from slurmeval.progress import size_text
    from slurmeval.staging.importing import import_lists
    from slurmeval.staging.repository import HUB_LOCK

    config, project = _config(files), Path.cwd()
    hf_home = _hf_home(config)
    done = import_lists(hf_home, project / config.staging.images, project, to_stderr)
    read = f"{done.read} of them read, {size_text(done.size)}"
    click.echo(f"All {done.files} files are whole in {hf_home}; {read}.")
    for line in done.differing:
        click.echo(f"{HUB_LOCK} says otherwise: {line}: take the lock along with the files.", err=True)


def _config(files: tuple[Path, ...]) -> Config:
    from slurmeval.cli.check import checked

    return checked(files or (DEFAULT_CONFIG,))


def _hf_home(config: Config) -> Path:
    from slurmeval.paths import hf_home

    return hf_home(config.staging.hf_home, Path.cwd())


def _branches(config: Config) -> list[Repository]:
    """Returns the repositories, each once, that the config names by a branch or tag."""
    from slurmeval.staging.repository import Repository

    named = [Repository.of(model.source) for model in config.models.values()]
    named += [Repository.of(dataset) for dataset in config.datasets.values()]
    return list(dict.fromkeys(found for found in named if found is not None and not found.is_commit))


def _lock(config: Config) -> HubLock:
    """Returns what the project's lock has of the config's repositories."""
    from slurmeval.staging import hub_lock

    here = hub_lock.read(Path.cwd())
    pinned = {repository: here.pinned(repository) for repository in _branches(config)}
    commits = {asked: locked.revision for asked, locked in pinned.items() if locked is not None}
    return hub_lock.HubLock().with_commits(commits)


def _manifests(plan: Plan) -> list[Path]:
    """Returns the manifests of all models, datasets and rehearsals."""
    entries = plan.config.benchmarks
    datasets = dict.fromkeys(name for b in plan.benchmarks for name in entries[b].datasets)
    found = [plan.staged_model(name) for name in plan.models]
    found += [plan.staged_dataset(name) for name in datasets]
    found += [plan.rehearsal(name) for name in plan.benchmarks]
    return [plan.project / file for file in found]


def _places(plan: Plan) -> list[RuntimeRef]:
    """Returns the environments and images that servers and harnesses run in, each once."""
    config = plan.config
    found = [plan.runtime_refs.of_server(config.models[name]) for name in plan.models]
    found += [plan.runtime_refs.of_harness(config.benchmarks[name]) for name in plan.benchmarks]
    return list({place.record: place for place in found if place is not None}.values())
