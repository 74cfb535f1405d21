"""`slurmeval gate`: whether a model may replace others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurmeval.cli.lean import lean
from slurmeval.cli.naming import about_results
from slurmeval.cli.numbers import min_paired_option
from slurmeval.cli.scores import aligned, printable
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.wording import signed

if TYPE_CHECKING:
    from slurmeval.results.gate_checks import GateCheck
    from slurmeval.results.gating import Gate

EXIT_STATUS = {"GO": 0, "NO-GO": 1, "INCONCLUSIVE": 2}


@click.command()
@click.argument("policy", type=click.Path(path_type=Path))
@click.option("--candidate", help="The model to judge.  [default: the policy's]")
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    help="A model to hold it against; may be given several times.  [default: the policy's]",
)
@min_paired_option
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@about_results
def gate(
    policy: Path,
    candidate: str | None,
    baselines: tuple[str, ...],
    min_paired: float,
    form: str,
    results: Path,
) -> int:
    """Says whether scores drop by no more than allowed.

    A candidate is held against baselines. POLICY is a YAML file with the limits; NeMo Evaluator's can be used
    as they are. The exit status is 0 for GO (all drops are surely within their limits), 1 for NO-GO (one is
    surely beyond), 2 for INCONCLUSIVE (neither, or nothing was gated) and for bad input. docs/deciding.md
    says more.
    """
    lean()
    from slurmeval.config.load import load_policy
    from slurmeval.results.gating import gate as decided

    try:
        found = decided(results, load_policy(policy), candidate, baselines, min_paired)
    except OSError as error:  # no failure of any kind may look like NO-GO
        raise UserError(f"{error.filename or results}: {error.strerror or error}") from error
    except SlurmevalError as error:
        raise UserError(str(error)) from error
    if form == "json":
        click.echo(json.dumps({"policy": str(policy)} | asdict(found), indent=1))
    else:
        for line in lines(found):
            click.echo(printable(line))
    return EXIT_STATUS[found.decision]


def lines(found: Gate) -> Iterator[str]:
    """Yields a decision and what it rests on as lines for a terminal."""
    yield f"{found.decision}: {found.candidate} against {', '.join(found.baselines)}"
    yield from found.reasons
    if not found.checks:
        return
    head = ["benchmark", "against", "tier", "metric", "limit", "baseline", "candidate", "drop"]
    table = [[*head, "95 % interval", "allowed", "n", "found"], *map(_row, found.checks)]
    yield ""
    yield from aligned([[printable(cell) for cell in row] for row in table], 5)
    # A benchmark with two limits has two checks of the same answers
    yield from dict.fromkeys(
        f"{check.benchmark} against {check.baseline}: {remark}"
        for check in found.checks
        for remark in check.remarks
    )


def _row(check: GateCheck) -> list[str]:
    scores = [
        "" if score is None else f"{score:.3f}" for score in (check.baseline_score, check.candidate_score)
    ]
    drop = "" if check.drop is None else signed(check.drop)
    interval = (
        "" if check.interval is None else " … ".join(map(signed, (check.interval.low, check.interval.high)))
    )
    limit = "absolute" if check.limit == "max_drop" else "relative"
    found = check.finding.lower().replace("_", " ")
    start = [check.benchmark, check.baseline, check.tier, check.metric or "", limit]
    return [*start, *scores, drop, interval, f"{check.allowed:g}", f"{check.n:,}", found]
