"""`slurmeval show`: the leaderboard in the terminal."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slurmeval.cli.lean import lean
from slurmeval.cli.naming import about_results
from slurmeval.cli.scores import aligned, printable
from slurmeval.cli.suites import benchmark_options, wanted

if TYPE_CHECKING:
    from slurmeval.results.leaderboard import Entry, Leaderboard, Ranking
    from slurmeval.statistics.intervals import Interval

NAME_WIDTH = 40
"""Characters of a name in a table; the rest of a longer one is cut."""
REMARKS_LIMIT = 20
REASON_LENGTH = 200
BADGE = "!"
"""Marks a score that depends more on how doubtful answers are read than on the questions."""


@click.command()
@benchmark_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="csv: a row for each score; json: all there is to know.",
)
@about_results
def show(benchmarks: tuple[str, ...], suites: tuple[str, ...], form: str, results: Path) -> None:
    """Shows the leaderboard: all scores, and how sure they are.

    Scores are each benchmark's primary metric with its 95 % interval. The mean weighs each benchmark the
    same. Models that share a letter cannot be told apart; `!` marks a score that depends more on how doubtful
    answers are read than on the questions. docs/deciding.md says how each is worked out.
    """
    lean()
    from slurmeval.results.leaderboard import leaderboard

    board = leaderboard(results, wanted(results, benchmarks, suites))
    if form == "json":
        click.echo(as_json(board))
    elif form == "csv":
        click.echo(as_csv(board), nl=False)
    else:
        for line in lines(board, shutil.get_terminal_size((120, 24)).columns):
            click.echo(line)


def lines(board: Leaderboard, width: int) -> Iterator[str]:
    """Yields a leaderboard as lines for a terminal; benchmarks that do not fit follow below."""
    names = [["", "model"], *([_band(board.ranking, model), _short(model)] for model in board.models)]
    names[0][0] = "rank" if board.ranking else ""
    columns = [_column(board, benchmark) for benchmark in board.benchmarks]
    if board.standings:
        columns.insert(0, _means(board))
    name_width = sum(max(len(row[column]) for row in names) for column in (0, 1)) + 2
    for index, block in enumerate(_blocks(columns, width - name_width)):
        if index:
            yield ""
        table = [[*row, *cells] for row, cells in zip(names, zip(*block, strict=True), strict=True)]
        yield from aligned([[printable(cell) for cell in row] for row in table], len(table[0]))
    yield from _remarks(board)


def _column(board: Leaderboard, benchmark: str) -> list[str]:
    """Returns a benchmark's column, the head first."""
    entries = [board.entries.get((model, benchmark)) for model in board.models]
    counts = {entry.n for entry in entries if entry is not None and entry.n is not None}
    n = f", n {min(counts):,}{f'–{max(counts):,}' if len(counts) > 1 else ''}" if counts else ""
    metric = board.metrics[benchmark]
    head = _short(benchmark) + (f" ({_short(metric)}{n})" if metric else "")
    return [head, *("" if each is None else _cell(each, board.rankings[benchmark]) for each in entries)]


def _cell(entry: Entry, ranking: Ranking) -> str:
    if entry.status != "ok":
        return entry.status
    badge = f" {BADGE}" if entry.depends_on_reading else ""
    letters = f" {ranking.letters(entry.model)}" if len(ranking.order) > 1 else ""
    if entry.value is not None:
        return f"{entry.value:.3f}{_between(entry.interval)}{letters}{badge}"
    return "no score" if entry.harness_value is None else f"{entry.harness_value:.5g}{letters}"


def _means(board: Leaderboard) -> list[str]:
    column = [f"mean of {len(board.averaged)}"]
    for model in board.models:
        standing = board.standings[model]
        letters = board.ranking.letters(model) if board.ranking else ""
        mean = "" if standing.mean is None else f"{standing.mean:.3f}{_between(standing.interval)}"
        column.append(f"{mean} {letters}".rstrip() or "not in all")
    return column


def _band(ranking: Ranking | None, model: str) -> str:
    if ranking is None or model not in ranking.bands:
        return ""
    best, worst = ranking.bands[model]
    return str(best) if best == worst else f"{best}–{worst}"


def _between(interval: Interval | None) -> str:
    return "" if interval is None else f" [{interval.low:.3f}, {interval.high:.3f}]"


def _short(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}…"


def _blocks(columns: Sequence[list[str]], width: int) -> Iterator[list[list[str]]]:
    """Yields columns in blocks of at most `width` characters, and at least one column."""
    block: list[list[str]] = []
    used = 0
    for column in columns:
        needed = 2 + max(map(len, column))
        if block and used + needed > width:
            yield block
            block, used = [], 0
        block.append(column)
        used += needed
    if block:
        yield block


def _remarks(board: Leaderboard) -> Iterator[str]:
    """Yields what a reader has to know before believing the scores."""
    if board.standings and len(board.averaged) < len(board.benchmarks):
        others = [benchmark for benchmark in board.benchmarks if benchmark not in board.averaged]
        yield f"Not in the mean: {', '.join(others)}"
    for a, b, count in board.shared:
        names = f"{_short(a)} and {_short(b)} share {count:,} questions"
        yield printable(f"{names}: the mean's error adds theirs up")
    if len(board.models) > 1:
        yield "Models that share a letter cannot be told apart (paired, 95 %, Holm over all pairs)."
    entries = list(board.entries.values())
    doubtful = [each for each in entries if each.n_unanswered or each.n_unparsed or each.n_cut]
    doubtful.sort(key=lambda each: -(each.readings.width if each.readings else 0.0))
    remarks = [_doubts(each) for each in doubtful]
    if len(board.models) > 1:
        remarks += [_unpaired(each) for each in entries if not each.has_answers]
    remarks += [f"{_of(each)}: no interval: {each.refusal}" for each in entries if each.refusal]
    again = [each for each in entries if each.rerun]
    remarks += [f"{_of(each)}: running it again would move it by ± {each.rerun:.3f}" for each in again]
    judged = [each for each in entries if each.judge_rerun]
    moved = "asking the judge again about the same answers would move it by ±"
    remarks += [f"{_of(each)}: {moved} {each.judge_rerun:.3f}" for each in judged]
    remarks += [_passes(each) for each in entries if each.pass_at_k is not None]
    remarks += [_audit(each) for each in entries if each.n_audited]
    remarks += [_failure(each) for each in entries if each.metric is None]
    yield from map(printable, remarks[:REMARKS_LIMIT])
    if len(remarks) > REMARKS_LIMIT:
        yield f"… and {len(remarks) - REMARKS_LIMIT} more remarks: --format csv has all"


def _doubts(entry: Entry) -> str:
    counts = {"unanswered": entry.n_unanswered, "unparsed": entry.n_unparsed, "cut": entry.n_cut}
    counted = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    line = f"{_of(entry)}: {counted}"
    if entry.readings is not None:
        wrong, right = f"{entry.readings.wrong:.3f}", f"{entry.readings.right:.3f}"
        line += f"; {wrong} if all of them were wrong, {right} if right"
    return f"{BADGE} {line}" if entry.depends_on_reading else line


def _unpaired(entry: Entry) -> str:
    return f"{_of(entry)}: no answers with their scores are there, so it is told apart from no other model"


def _failure(entry: Entry) -> str:
    reason = " ".join((entry.reason or "no reason is known").split())
    said = "no score" if entry.status == "ok" else entry.status
    return f"{_of(entry)}: {said}: {reason[:REASON_LENGTH]}"


def _passes(entry: Entry) -> str:
    k = entry.n_answers
    any_, all_ = f"pass@{k} {entry.pass_at_k:.3f}", f"pass^{k} {entry.pass_hat_k:.3f}"
    return f"{_of(entry)}: of {k} answers to a question one is right: {any_}, all are: {all_}"


def _audit(entry: Entry) -> str:
    counted = f"{entry.n_audit_differ:,} of {entry.n_audited:,} requests"
    line = f"{_of(entry)}: {counted} asked again got another answer"
    moved = entry.rerun_bound
    return line if not moved else f"{line}; running again would move the score by ± {moved:.3f} at most"


def _of(entry: Entry) -> str:
    return f"{_short(entry.model)} on {_short(entry.benchmark)}"


def as_json(board: Leaderboard) -> str:
    """Returns a leaderboard as JSON in ASCII, with lists in place of mappings by two names."""
    import orjson

    fields = {name: value for name, value in vars(board).items() if name not in ("entries", "standings")}
    entries = [vars(entry) | {"depends_on_reading": entry.depends_on_reading} for entry in _ordered(board)]
    standings = [board.standings[model] for model in board.models if model in board.standings]
    text = orjson.dumps(
        fields | {"entries": entries, "standings": standings}, option=orjson.OPT_INDENT_2
    ).decode()
    # What a terminal would take for a command is escaped
    return text if text.isascii() else json.dumps(json.loads(text), indent=2)


def as_csv(board: Leaderboard) -> str:
    """Returns a row for each score, and one for each mean (its benchmark is empty)."""
    rows = [_mean_row(board, model) for model in board.models if model in board.standings]
    rows += [_entry_row(entry, board.rankings[entry.benchmark]) for entry in _ordered(board)]
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in reversed(rows) for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {name: printable(each) if isinstance(each, str) else each for name, each in row.items()}
        )
    return text.getvalue()


def _ordered(board: Leaderboard) -> list[Entry]:
    pairs = ((model, benchmark) for model in board.models for benchmark in board.benchmarks)
    return [board.entries[pair] for pair in pairs if pair in board.entries]


def _mean_row(board: Leaderboard, model: str) -> dict[str, Any]:
    standing = board.standings[model]
    row = {"model": model, "benchmark": "", "metric": f"mean of {len(board.averaged)} benchmarks"}
    return row | {"value": standing.mean, "se": standing.se} | _sure(standing.interval, board.ranking, model)


def _entry_row(entry: Entry, ranking: Ranking) -> dict[str, Any]:
    row = {name: value for name, value in asdict(entry).items() if name not in ("interval", "readings")}
    read = entry.readings
    return (
        row
        | _sure(entry.interval, ranking, entry.model)
        | {
            "if_wrong": read and read.wrong,
            "if_left_out": read and read.left_out,
            "if_right": read and read.right,
            "depends_on_reading": entry.depends_on_reading,
        }
    )


def _sure(interval: Interval | None, ranking: Ranking | None, model: str) -> dict[str, Any]:
    """Returns the columns of an interval and of a rank."""
    best, worst = ranking.bands.get(model, (None, None)) if ranking else (None, None)
    return {
        "ci_lo": interval and interval.low,
        "ci_hi": interval and interval.high,
        "rank_best": best,
        "rank_worst": worst,
        "letters": ranking.letters(model) if ranking else "",
    }
