"""`slurmeval status`: what runs, what is done, what failed."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurmeval.cli.naming import about_results, others
from slurmeval.cli.scores import printable
from slurmeval.progress import age_text

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from slurmeval.cli.run_state import RunState, ShownEvaluation, ShownServer

REDRAW_INTERVAL_S = 2.0
ROWS_LIMIT = 60
"""Evaluations in the table. Of more, those that run and have failed come first."""
FAILURES_LIMIT = 20
MIN_WIDTH = 80
UNBROKEN_WIDTH = 1000
"""Characters of a line in a file or pipe; longer ones are broken."""
COLOURS = {
    "ok": "green",
    "ready": "green",
    "running": "cyan",
    "failed": "red",
    "stopped": "yellow",
    "gone": "red",
    "silent": "red",
    "waiting": "yellow",
    "pending": "yellow",
    "starting": "yellow",
    "restarting": "yellow",
    "draining": "yellow",
}


@click.command()
@click.option("--watch", is_flag=True, help="Redraw every 2 s until the run ends, or Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@about_results
def status(watch: bool, as_json: bool, results: Path) -> None:
    """Shows the run: servers, evaluations, failures.

    Tokens/s is what a server generates at the moment. The requests of an evaluation are those answered so
    far, in this try or an earlier one; its samples are counted once it is scored.
    """
    from slurmeval.cli.run_state import read_run

    if watch and as_json:
        raise click.UsageError("--watch and --json do not go together")
    if watch:
        _watch(results)
    elif as_json:
        click.echo(json.dumps(asdict(read_run(results)), indent=1))
    else:
        _print(render(read_run(results), results))


def _print(shown: Group) -> None:
    """Prints a run: into a file or pipe each row on one line, in a terminal no narrower than can be read."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    if console.is_terminal:
        console.width = max(console.width, MIN_WIDTH)
    else:
        unbroken = console.options.update(max_width=UNBROKEN_WIDTH)
        console.width = max(console.width, Measurement.get(console, unbroken, shown).maximum)
    console.print(shown)


def _watch(results: Path) -> None:
    from rich.console import Console
    from rich.live import Live

    from slurmeval.cli.run_state import read_run

    run = read_run(results)
    try:
        with Live(render(run, results), console=Console(), auto_refresh=False) as live:
            while run.controller is not None:
                time.sleep(REDRAW_INTERVAL_S)
                run = read_run(results)
                live.update(render(run, results), refresh=True)
    except KeyboardInterrupt:
        return  # the way to end it


def render(run: RunState, results: Path) -> Group:
    """Returns the run as a person reads it."""
    from rich.console import Group
    from rich.text import Text

    if run.controller is None and not run.servers and not run.evaluations:
        elsewhere = "".join(f" --results {each}" for each in others(results)[:1])
        hint = f" In another folder something has:{elsewhere}" if elsewhere else ""
        return Group(Text(f"Nothing has run here yet ({results}).{hint}"))
    parts: list[Text | Table] = [Text(_headline(run))]
    if run.servers:
        parts.append(_servers(run.servers))
    if run.evaluations:
        parts.append(_evaluations(run.evaluations))
    failed = [each for each in run.evaluations if each.state == "failed"]
    parts.extend(Text(_failure(each), style="red") for each in failed[:FAILURES_LIMIT])
    if len(failed) > FAILURES_LIMIT:
        parts.append(Text(f"… and {len(failed) - FAILURES_LIMIT} more have failed (--json lists all)"))
    return Group(*parts)


def _failure(each: ShownEvaluation) -> str:
    why = f"{each.error_class or 'unknown'}): {each.reason or 'no reason is known'}"
    return printable(f"{each.model} on {each.benchmark} failed ({why}")


def _headline(run: RunState) -> str:
    if run.controller is None:
        head = "No run is under way."
    else:
        since = run.controller.since or "just now"
        head = printable(f"A run is under way: {run.controller}, since {since}.")
    states = Counter(each.state for each in run.evaluations)
    counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
    if not counts:
        return head
    what = "1 evaluation" if len(run.evaluations) == 1 else f"{len(run.evaluations)} evaluations"
    carries_on = " The same command carries on." if states["stopped"] and run.controller is None else ""
    return f"{head} {what}: {counts}.{carries_on}"


def _table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    for column in columns:
        # The longest is broken first, which is a reason or a name; no head is cut
        table.add_column(
            column,
            justify="right" if column in right else "left",
            overflow="fold",
            min_width=max(map(len, column.split())),
            no_wrap=column in ("status", "for", *right),
        )
    return table


def _servers(servers: list[ShownServer]) -> Table:
    right = ("run", "tokens/s", "requests")
    table = _table("Servers", "server", "status", "for", "node", *right, "reason", right=right)
    for server in servers:
        table.add_row(
            _plain(server.server_id),
            _coloured(server.status),
            age_text(server.since),
            _plain(server.node),
            _plain(server.engine_run),
            "" if server.tokens_per_s is None else f"{server.tokens_per_s:.1f}",
            _plain(server.requests_running),
            _plain(server.reason or _start(server)),
        )
    return table


def _start(server: ShownServer) -> str | None:
    """Returns how long the engine took to start, and which parts it told of."""
    parts = (
        (server.weights_s, "weights"),
        (server.compile_s, "compile"),
        (server.first_answer_s, "first answer"),
    )
    told = [f"{name} {seconds:.0f}" for seconds, name in parts if seconds is not None]
    return f"started in {server.starting_s:.0f} s: {', '.join(told)}" if told else None


def _evaluations(evaluations: list[ShownEvaluation]) -> Table:
    right = ("samples", "requests", "score")
    columns = ("model", "benchmark", "state", "samples", "requests", "score", "95 % interval")
    table = _table("Evaluations", *columns, right=right)
    rows = evaluations
    if len(evaluations) > ROWS_LIMIT:
        first = {"running": 0, "failed": 1, "waiting": 2}
        rows = sorted(evaluations, key=lambda each: first.get(each.state, 3))[:ROWS_LIMIT]
        table.caption = f"{ROWS_LIMIT} of {len(evaluations)}; --json lists all"
    for each in rows:
        state = each.state if each.phase in (None, each.state) else each.phase
        table.add_row(
            _plain(each.model),
            _plain(each.benchmark),
            _coloured(f"waiting, {each.reason}" if state == "waiting" and each.reason else str(state)),
            _of(each.samples, each.samples_expected)
            + (f", {each.unanswered:,} unanswered" if each.unanswered else ""),
            _of(each.requests, each.requests_expected),
            "" if each.score is None else f"{each.score.value:.3f}",
            "" if each.score is None else each.score.interval,
        )
    return table


def _of(done: int | None, expected: int | None) -> str:
    """Returns `3 of 20`, or the half of it that is known."""
    if expected is None:
        return "" if done is None else str(done)
    return f"of {expected}" if done is None else f"{done} of {expected}"


def _plain(value: object) -> str:
    """Returns text that rich takes for no markup, and a terminal for no command."""
    from rich.markup import escape

    return escape(printable("" if value is None else str(value)))


def _coloured(state: str) -> str:
    colour = COLOURS.get(state.split()[0].rstrip(","))
    return f"[{colour}]{_plain(state)}[/]" if colour else _plain(state)
