"""`slurmeval humans`: files in which people rate stored answers, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurmeval.cli.naming import about_results
from slurmeval.cli.scores import aligned, printable
from slurmeval.errors import UserError

if TYPE_CHECKING:
    from slurmeval.humans.batch import Batch
    from slurmeval.humans.writing import StudySummary
    from slurmeval.statistics.intervals import Interval

FOR_RATERS = "for-raters"
FORMATS = ("html", "csv", "label-studio", "potato")


@click.group()
def humans() -> None:
    """Has people rate stored answers, and reads what they say.

    docs/people.md goes through a study from its file to the report.
    """


@humans.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option(
    "--format", "formats", multiple=True, type=click.Choice(FORMATS), default=("html",), show_default=True
)
@click.option(
    "--unsure-of",
    metavar="BENCHMARK",
    help="Also draw what this judge is unsure of (hybrid).  [default: the study's unsure_of]",
)
@about_results
def make(study: Path, formats: tuple[str, ...], unsure_of: str | None, results: Path) -> None:
    """Draws answers at random and writes a file for each rater.

    STUDY is a YAML file: who rates which answers and how. Files for raters go to `humans/NAME/for-raters` in
    the results' folder. Beside it lies key.json, which tells whose answers they are: raters must not have it.
    """
    from slurmeval.config.load import load_study
    from slurmeval.humans import batch as batches
    from slurmeval.humans.drawing import draw
    from slurmeval.humans.reading import KEY
    from slurmeval.results.frames import results_folder

    declared = load_study(study)
    if unsure_of is not None:
        declared = declared.model_copy(update={"unsure_of": unsure_of})
    folder = results_folder(results) / "humans" / declared.name
    if (folder / KEY).exists():
        raise UserError(f"{folder}: the study was made already; another `name` makes another one")
    questions, strata = draw(results, declared)
    batch = batches.make(declared, questions, strata)
    files = list(_write(folder / FOR_RATERS, batch, formats))
    batches.write_key(folder / KEY, batch)
    for stratum in strata:
        more = f"; {stratum.unsure} that {declared.unsure_of} is unsure of" if declared.unsure_of else ""
        click.echo(f"{stratum.benchmark}: {stratum.drawn} of {stratum.population} questions, at random{more}")
    for rater, items in batch.raters.items():
        again, gold = sum(each.again for each in items), len(declared.gold)
        click.echo(f"{rater}: {len(items)} items, {again} of them a second time, {gold} gold")
    for file in files:
        click.echo(str(file))
    click.echo(f"key (not for raters): {folder / KEY}")


def _write(folder: Path, batch: Batch, formats: tuple[str, ...]) -> Iterator[Path]:
    from slurmeval.files import write_atomically
    from slurmeval.humans import elsewhere
    from slurmeval.report.rating_page import page

    for rater in batch.raters:
        for name in formats:
            made = {f"{rater}.html": page(batch, rater)} if name == "html" else {}
            made = made or elsewhere.files(name, batch, rater)
            for file, text in made.items():
                write_atomically(folder / file, text)
                yield folder / file


@humans.command()
@click.argument("files", nargs=-1, required=True, metavar="FILES...", type=click.Path(path_type=Path))
@click.option(
    "--key", type=click.Path(path_type=Path), help="The study's key.json.  [default: by the files' batch]"
)
@about_results
def read(files: tuple[Path, ...], key: Path | None, results: Path) -> None:
    """Merges and checks raters' files: agreement, raters, models.

    FILES are what raters' pages downloaded, exports of Label Studio (JSON), Potato's
    annotated_instances.jsonl, or filled in CSV; all raters' at once, as often as wanted. Ratings, a summary
    and a list to adjudicate go to the study's folder; the next report has the summary.
    """
    from slurmeval.humans.formats import read_file
    from slurmeval.humans.reading import find_key, merge
    from slurmeval.humans.writing import write
    from slurmeval.results.frames import results_folder

    if key is None:
        key, given = find_key(files, results_folder(results) / "humans")
    else:
        given = [each for file in files for each in read_file(file)]
    summary = write(key.parent, merge(key, given))
    for line in lines(summary):
        click.echo(printable(line))
    click.echo(f"{key.parent}: ratings.parquet, ratings.csv, summary.json, adjudicate.csv")


def lines(summary: StudySummary) -> Iterator[str]:
    """Yields what a study found as lines for a terminal."""
    table = [["agreement", "alpha", "95 % interval", "kappa", "tau", "same", "units"]]
    for each in summary.agreements:
        shares = [_number(value) for value in (each.kappa, each.tau, each.exact)]
        table.append([each.name, _number(each.alpha), _interval(each.interval), *shares, str(each.n_units)])
    yield from aligned(table, 1)
    table = [["rater", "rated", "of", "median s", "same again", "gold right", "leaning", "drift"]]
    for rater in summary.raters:
        shares = [_number(value) for value in (rater.self_agreement, rater.gold_right)]
        signs = [_number(rater.leaning, "+"), _number(rater.drift, "+")]
        time = _number(rater.median_time_s)
        table.append([rater.rater, str(rater.n_rated), str(rater.n_given), time, *shares, *signs])
    yield from ("", *aligned(table, 1))
    table = [["benchmark", "rated", "model", "against", "mean", "95 % interval", "questions", "ratings"]]
    for mean in summary.means:
        names = [mean.benchmark, mean.name, mean.model, mean.against or ""]
        counts = [str(mean.n_questions), str(mean.n_ratings)]
        table.append([*names, _number(mean.value), _interval(mean.interval), *counts])
    yield from ("", *aligned(table, 4))
    if summary.strengths:
        table = [["Bradley–Terry", "Elo", "95 % interval", "ratings"]]
        for model in summary.strengths:
            elo = "none: never lost or won" if model.elo is None else f"{model.elo:.0f}"
            table.append([model.model, elo, _interval(model.interval, 0), str(model.n)])
        yield from ("", *aligned(table, 1))
    for difference in summary.differences:
        told = f"{difference.a} − {difference.b}: {difference.value:+.2f} ({_interval(difference.interval)})"
        verdict = f"verdict on {difference.a}: {difference.verdict}"
        yield f"{difference.benchmark}, {difference.name}: {told}; {verdict}"
    yield from summary.remarks
    yield f"{summary.n_disputed} answers on which raters differ much"


def _number(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.2f}"


def _interval(interval: Interval | None, digits: int = 2) -> str:
    return "–" if interval is None else f"{interval.low:.{digits}f} … {interval.high:.{digits}f}"
