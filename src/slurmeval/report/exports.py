"""The scores for other programs: every metric as CSV, the score table as LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

from slurmeval.report.tables import ScoreCell, Tables, settings
from slurmeval.results import schema


def metrics_csv(tables: Tables) -> str:
    """Returns the table `metrics` as CSV, with its columns as in Parquet.

    Null is an empty field; a list has spaces between its members.
    """
    import pandas

    rows = [row | {"mean_of": " ".join(row["mean_of"] or ())} for row in tables.metrics]
    # as objects: a column of integers with a null stays one of integers
    frame = pandas.DataFrame(rows, columns=schema.METRICS.schema.names, dtype=object)
    return str(frame.to_csv(index=False, lineterminator="\n"))


def scores_tex(tables: Tables) -> str:
    """Returns the score table for a paper, which needs the LaTeX package booktabs.

    A cell has value and standard error, or a dash. The longer of models and benchmarks goes down the side.
    """
    import pandas

    down, across = sides(tables)
    by_model = down == tables.models
    cells = [
        [_cell(tables.scores.get((row, column) if by_model else (column, row))) for column in across]
        for row in down
    ]
    frame = pandas.DataFrame(cells, index=down, columns=across)
    frame.columns.name = "Model" if by_model else "Benchmark"
    style = frame.style.format_index(escape="latex", axis=0).format_index(escape="latex", axis=1)
    table = style.to_latex(hrules=True, column_format="l" + "r" * len(across))
    lines = ["% Scores with standard errors. Needs \\usepackage{booktabs}.", *table.splitlines()]
    return "\n".join([*lines, *_notes(tables), ""])


def _notes(tables: Tables) -> list[str]:
    """Returns what was asked for, as comments: by benchmark, and by model where it differs."""
    asked: dict[str, dict[str, str]] = {}
    for row in tables.of_status("ok"):
        asked.setdefault(row["benchmark"], {})[row["model"]] = settings(row)
    notes = []
    for benchmark, by_model in asked.items():
        same = len(set(by_model.values())) == 1
        named = {"": next(iter(by_model.values()))} if same else by_model
        notes += [f"% {benchmark}{f' ({model})' if model else ''}: {words}" for model, words in named.items()]
    return notes


def sides(tables: Tables) -> tuple[Sequence[str], Sequence[str]]:
    """Returns the names down the side and across the top of the score table. The longer list goes down."""
    if len(tables.models) >= len(tables.benchmarks):
        return tables.models, tables.benchmarks
    return tables.benchmarks, tables.models


def _cell(score: ScoreCell | None) -> str:
    if score is None or score.value is None:
        return "--"
    error = "" if score.se is None else rf" {{\scriptsize$\pm$\,{score.se:.3f}}}"
    lost = rf" {{\scriptsize({score.n_unanswered:,} unanswered)}}" if score.n_unanswered else ""
    return f"{score.value:.3f}{error}{lost}"
