"""`slurmeval runs`: every evaluation that ended well, also those that the tables no longer have."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurmeval.cli.lean import lean
from slurmeval.cli.naming import about_results
from slurmeval.cli.scores import aligned, printable
from slurmeval.cli.suites import benchmark_options, wanted

if TYPE_CHECKING:
    from slurmeval.results.history import PastEvaluation

DIGITS = 8
"""Of a hash or a commit that is shown."""
DIFFERENCES_LIMIT = 4


@click.command()
@click.option("--model", "models", multiple=True, help="Only this one; may be given several times.")
@benchmark_options
@click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True
)
@about_results
def runs(
    models: tuple[str, ...], benchmarks: tuple[str, ...], suites: tuple[str, ...], form: str, results: Path
) -> None:
    """Shows every evaluation that ended well, the latest first.

    A model evaluated again with another revision, image or setting is another row. `*` marks the rows that
    tables and report show. docs/deciding.md says what makes a row.
    """
    lean()
    from slurmeval.results.history import past_evaluations

    found = past_evaluations(results, models, wanted(results, benchmarks, suites))
    if form == "json":
        click.echo(json.dumps([asdict(each) for each in found], indent=1))
    elif form == "csv":
        click.echo(as_csv(found), nl=False)
    elif found:
        for line in aligned([[printable(cell) for cell in row] for row in table(found)], 10):
            click.echo(line)
    else:
        click.echo(f"no evaluation has ended well in {results}")


def table(found: Sequence[PastEvaluation]) -> list[list[str]]:
    """Returns evaluations as rows of text, the head first."""
    head = [
        "",
        "model",
        "benchmark",
        "ended (UTC)",
        "metric",
        "score",
        "revision",
        "config",
        "key",
        "differs in",
    ]
    return [head, *map(_row, found)]


def _row(each: PastEvaluation) -> list[str]:
    interval = "" if each.ci_lo is None or each.ci_hi is None else f" [{each.ci_lo:.3f}, {each.ci_hi:.3f}]"
    value = "" if each.harness_value is None else f"{each.harness_value:.5g}"
    score = value if each.value is None else f"{each.value:.3f}{interval}"
    more = len(each.differs) - DIFFERENCES_LIMIT
    differs = [*each.differs[:DIFFERENCES_LIMIT], *([f"{more} more"] if more > 0 else [])]
    return [
        "*" if each.shown else "",
        each.model,
        each.benchmark,
        each.ended_at[:16].replace("T", " "),
        each.metric or "",
        score,
        (each.model_revision or "")[:DIGITS],
        (each.config_sha256 or "")[:DIGITS],
        each.key[:DIGITS],
        ", ".join(differs),
    ]


def as_csv(found: Sequence[PastEvaluation]) -> str:
    """Returns a row for each evaluation."""
    rows = [asdict(each) | {"differs": "; ".join(each.differs)} for each in found]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: printable(v) if isinstance(v, str) else v for name, v in row.items()})
    return text.getvalue()
