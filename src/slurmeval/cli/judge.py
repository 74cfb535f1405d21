"""`slurmeval judge`: scores by judges, and how far each judge can be trusted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from slurmeval.cli.naming import about_results
from slurmeval.cli.scores import aligned, printable

Row = Mapping[str, Any]


@click.command()
@click.argument("benchmark", required=False)
@click.option("--json", "as_json", is_flag=True, help="Write both tables as JSON.")
@about_results
def judge(benchmark: str | None, as_json: bool, results: Path) -> None:
    """Shows scores by judges, and each judge's card.

    BENCHMARK: that of one judge; all where it is left out. docs/judges.md says what each measure means.
    """
    from slurmeval.config.messages import nearest
    from slurmeval.errors import UserError
    from slurmeval.paths import Paths
    from slurmeval.results.frames import results_folder
    from slurmeval.results.judge_tables import read_cards, read_judged

    folder = results_folder(results)
    judged, cards = read_judged(Paths.of_results(folder)), read_cards(Paths.of_results(folder))
    names = list(dict.fromkeys(row["benchmark"] for row in judged))
    if not names:
        raise UserError(f"{folder}: nothing was judged")
    if benchmark is not None and benchmark not in names:
        raise UserError(f"unknown judge's benchmark '{benchmark}'; {nearest(benchmark, names)}")
    shown = [name for name in names if benchmark in (None, name)]
    judged = [row for row in judged if row["benchmark"] in shown]
    cards = [row for row in cards if row["benchmark"] in shown]
    if as_json:
        click.echo(json.dumps({"judged": judged, "judge_card": cards}, indent=2))
        return
    for place, name in enumerate(shown):
        if place:
            click.echo()
        own, card = ([row for row in rows if row["benchmark"] == name] for rows in (judged, cards))
        click.echo("\n".join(_lines(name, own, card)))


def _lines(name: str, judged: Sequence[Row], cards: Sequence[Row]) -> Iterator[str]:
    """Yields what is shown of one judge's benchmark."""
    first = judged[0]
    by = "a jury" if first["judge"] is None else first["judge"]
    than = "" if first["against"] is None else f", against {first['against']}"
    yield printable(f"{name}: judged by {by}{than}")
    header = ["dimension", "model", "judge says", "interval", "corrected", "interval", "labels", "unscored"]
    controlled = any(row["value_controlled"] is not None for row in judged)
    header += ["equal length", "equal style"] if controlled else []
    table = [header]
    for row in judged:
        unscored = row["n_answers"] - row["n_scored"]
        cells = [printable(row["dimension"]), printable(row["model"])]
        cells += [percent(row["value_judge"]), ends(row, "ci"), percent(row["value_corrected"])]
        cells += [ends(row, "corrected"), str(row["n_labelled"]), f"{unscored} of {row['n_answers']}"]
        if controlled:
            cells += [percent(row["value_controlled"]), percent(row["value_style"])]
        table.append(cells)
    yield from aligned(table, 2)
    for reason in dict.fromkeys(row["uncorrected"] for row in judged if row["uncorrected"]):
        yield f"not corrected: {printable(reason)}"
    yield "card:"
    table = [["dimension", "measure", "value", "interval", "of"]]
    for row in cards:
        low, high = row["ci_lo"], row["ci_hi"]
        interval = "–" if low is None else f"{low:.3f} … {high:.3f}"
        value = "–" if row["value"] is None else f"{row['value']:.3f}"
        table.append([printable(row["dimension"]), row["measure"], value, interval, str(row["n"])])
    yield from aligned(table, 2)


def percent(value: float | None) -> str:
    """Returns a proportion in percent."""
    return "–" if value is None else f"{100 * value:.1f} %"


def ends(row: Row, name: str) -> str:
    """Returns the ends of an interval in percent."""
    low, high = row[f"{name}_lo"], row[f"{name}_hi"]
    return "–" if low is None else f"{100 * low:.1f} … {100 * high:.1f}"
