"""The scores of a run as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slurmeval.report.tables import Row, ScoreCell, Tables

SCORES_LIMIT = 40
FAILURES_LIMIT = 20
REASON_LENGTH = 200


def lines(tables: Tables) -> list[str]:
    """Returns every score with its interval, and why evaluations have none, one line each."""
    scored = [score for score in tables.scores.values() if score.status == "ok"]
    found = [*aligned(_table(scored[:SCORES_LIMIT]))] if scored else []
    if len(scored) > SCORES_LIMIT:
        found.append(f"… and {len(scored) - SCORES_LIMIT} more: the report has all")
    failed, stopped = tables.of_status("failed"), tables.of_status("stopped")
    found += [_failure(row) for row in failed[:FAILURES_LIMIT]]
    waiting = [row for row in tables.of_status("missing") if row["reason"]]
    found += [_failure(row) for row in waiting[:FAILURES_LIMIT]]
    if len(failed) > FAILURES_LIMIT:
        found.append(f"… and {len(failed) - FAILURES_LIMIT} more have failed: the report has all")
    states = {"failed": len(failed), "stopped": len(stopped), "not ended": len(tables.of_status("missing"))}
    counts = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    if counts:
        noun = "evaluation" if len(tables.evaluations) == 1 else "evaluations"
        found.append(f"Of {len(tables.evaluations)} {noun}: {len(scored)} ended well, {counts}.")
    return found


def _table(scores: Iterable[ScoreCell]) -> list[list[str]]:
    table = [["model", "benchmark", "metric", "score", "95 % interval", "n", ""]]
    for score in scores:
        value = "no score" if score.value is None else f"{score.value:.3f}"
        interval = "" if score.ci_lo is None else f"{score.ci_lo:.3f}–{score.ci_hi:.3f}"
        n = "" if score.n_items is None else str(score.n_items)
        row = [score.model, score.benchmark, printable(score.metric or ""), value, interval, n]
        table.append([*row, _unanswered(score)])
    return table


def _unanswered(score: ScoreCell) -> str:
    """Returns what nobody answered, and where the score would lie had somebody."""
    if not score.n_unanswered:
        return ""
    bounds = "" if score.bound_lo is None else f": {score.bound_lo:.3f}–{score.bound_hi:.3f}"
    return f"{score.n_unanswered:,} unanswered{bounds}"


def aligned(table: list[list[str]], text_columns: int = 3) -> list[str]:
    """Returns rows as lines with even columns: `text_columns` to the left, then numbers to the right."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        "  ".join(
            f"{cell:<{width}}" if column < text_columns else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _failure(row: Row) -> str:
    reason = printable(" ".join((row["reason"] or "no reason is known").split()))
    short = reason if len(reason) <= REASON_LENGTH else f"{reason[:REASON_LENGTH]}…"
    said = "has not begun" if row["status"] == "missing" else f"failed ({row['error_class'] or 'unknown'})"
    return f"{row['model']} on {row['benchmark']} {said}: {short}"


def printable(text: str) -> str:
    """Returns text without what a terminal would take for a command."""
    return "".join(character if character.isprintable() else "�" for character in text)
