"""`slurmeval images`: images by their names, their locked content, and their SIFs on the disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slurmeval.errors import SlurmevalError, UserError
from slurmeval.progress import to_stderr
from slurmeval.project_files import IMAGES, IMAGES_LOCK, images_file

if TYPE_CHECKING:
    from slurmeval.containers.images import Image

PULLS_AT_ONCE = 4

IDS = click.argument("ids", nargs=-1, metavar="[ID]...")
FOLDER = click.option(
    "--folder",
    default=".images",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where images lie (staging.images).",
)
RESULTS = click.option(
    "--results",
    multiple=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="A results folder whose runs may use them; those in this folder are looked at anyway.",
)
_LOCK = Path(IMAGES_LOCK)
_WANTED = Path(IMAGES)


class _Stopped(Exception):
    """Raised in threads after Ctrl-C."""


@click.group()
def images() -> None:
    """Locks, pulls, verifies and removes images.

    containers/images.yaml says what is wanted, containers/images.lock.yaml which content that is. Run these
    commands in the project folder.
    """


@images.command()
@click.argument("dockerfile", type=click.Path(path_type=Path))
def recipe(dockerfile: Path) -> None:
    """Prints a definition file for `apptainer build`, made from DOCKERFILE.

    For a machine that cannot reach the registry of an image, but its base and a package index. What a
    definition file cannot say is named on standard error.
    """
    from slurmeval.containers.recipe import definition_of, losses

    click.echo(definition_of(dockerfile), nl=False)
    for line in losses(dockerfile):
        to_stderr(f"{dockerfile}: {line}")


@images.command()
@IDS
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 where something has moved.")
def lock(ids: tuple[str, ...], check: bool) -> int:
    """Asks the registries what each tag names and writes it down (ID: only for these)."""
    from slurmeval.containers.image_lock import lock

    changes, failures = lock(_WANTED, _LOCK, ids, to_stderr, write=not check)
    for change in changes:
        click.echo(change, err=change.moved)
    for failure in failures:
        click.echo(failure, err=True)
    if not changes and not failures:
        click.echo("Every image is as locked.")
    elif changes and not check:
        click.echo(f"{_LOCK}: {len(changes)} changed: commit it")
    return 1 if failures or (check and changes) else 0


@images.command()
@IDS
@FOLDER
@click.option("--all", "every", is_flag=True, help="All images of the lock.")
@click.option("--jobs", default=PULLS_AT_ONCE, show_default=True, type=click.IntRange(1), help="At once.")
@click.option(
    "--site",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The cluster's site.yaml: how containers are run, and which SIFs are there already.",
)
def pull(ids: tuple[str, ...], folder: Path, every: bool, jobs: int, site: Path | None) -> int:
    """Pulls images and tries them (a run does that itself, for those that it needs)."""
    from slurmeval.config.load import load_site
    from slurmeval.config.site import Containers
    from slurmeval.containers.apptainer import Apptainer
    from slurmeval.containers.image_lock import select
    from slurmeval.containers.images import ensure, is_whole

    if not ids and not every:
        raise UserError("which images? name them, or say --all; `slurmeval images pull --help`")
    chosen = select(_known(), ids, _WANTED) if ids else list(_locked().values())
    containers = load_site(site).containers if site is not None else Containers()
    given = {name: Path(os.path.expandvars(path)) for name, path in containers.images.items()}
    if all(is_whole(image, folder, given.get(image.id)) for image in chosen):
        click.echo("Every image is there.")
        return 0
    apptainer = Apptainer.find(containers)
    return _for_each(
        chosen,
        jobs,
        lambda image, say: f"{ensure(image, folder, apptainer, say, given.get(image.id))}",
    )


@images.command()
@IDS
@FOLDER
@click.option("--all", "every", is_flag=True, help="Also read what has not been touched since it was read.")
def verify(ids: tuple[str, ...], folder: Path, every: bool) -> int:
    """Compares the SIFs with what was recorded of them.

    Those whose size and time are as recorded are not read. Exits with 1 where something is missing or
    differs; the next pull makes it anew.
    """
    from slurmeval.containers.images import verify

    records = {image.record(folder): image for image in _chosen(ids) if image.record(folder).exists()}
    missing = [name for name in ids if name not in {image.id for image in records.values()}]
    for name in missing:
        click.echo(f"{name}: not pulled")
    if not records and not ids:
        click.echo(f"No image is in {folder}.")
    problems = len(missing)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:  # hashing leaves the interpreter free
        for record, found in zip(
            records, pool.map(lambda record: verify(record, every, to_stderr), records), strict=True
        ):
            problems += len(found)
            for line in found or ["ok"]:
                click.echo(f"{records[record].id}: {line}")
    return 1 if problems else 0


@images.command()
@FOLDER
@RESULTS
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def prune(folder: Path, results: tuple[Path, ...], dry_run: bool) -> None:
    """Removes SIFs that the lock does not ask for, and what killed pulls have left.

    What a run that is under way uses stays.
    """
    from slurmeval.cli.in_use import in_use, require_project, shown
    from slurmeval.containers.images import prune

    require_project(_WANTED)
    removed = prune([*_locked().values(), *_known().values()], folder, dry_run, in_use(results))
    for path in removed:
        click.echo(f"{'would remove' if dry_run else 'removed'} {shown(path)}")
    if not removed:
        click.echo("Every image is in use.")


def _locked() -> dict[str, Image]:
    from slurmeval.containers.images import read_lock

    lock = images_file(Path(), IMAGES_LOCK)
    return read_lock(lock) if lock.exists() else {}


def _known() -> dict[str, Image]:
    """Returns the images of the lock, and those of images.yaml that are not locked yet."""
    from slurmeval.containers.images import read_wanted

    wanted = images_file(Path(), IMAGES)
    return {**(read_wanted(wanted) if wanted.exists() else {}), **_locked()}


def _chosen(ids: Sequence[str]) -> list[Image]:
    from slurmeval.containers.image_lock import select

    return select(_known(), ids, _WANTED)


def _for_each(
    chosen: Sequence[Image], jobs: int, action: Callable[[Image, Callable[[str], None]], str]
) -> int:
    """Does `action` for several images at once; a failure of one leaves the others alone."""
    stopped = threading.Event()

    def say(text: str) -> None:
        if stopped.is_set():
            raise _Stopped
        to_stderr(text)

    pool = ThreadPoolExecutor(jobs)
    pending: dict[Future[str], Image] = {pool.submit(action, image, say): image for image in chosen}
    failures: list[SlurmevalError] = []
    try:
        for future in as_completed(pending):
            _tell(future, failures)
    except BaseException:  # what is being pulled ends with its next line
        stopped.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if len(chosen) == 1 and failures:
        raise failures[0]
    for failure in failures:
        click.echo(f"slurmeval: {failure}", err=True)
    return 1 if failures else 0


def _tell(future: Future[Any], failures: list[SlurmevalError]) -> None:
    try:
        click.echo(future.result())
    except SlurmevalError as error:
        failures.append(error)
