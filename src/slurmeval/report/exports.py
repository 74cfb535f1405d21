"""The scores for other programs: every metric as CSV, the score table as LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from slurmeval.report.tables import Score, Tables, settings
from slurmeval.results import schema

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def metrics_csv(tables: Tables) -> str:
    """The table `metrics`, with its columns as they are in Parquet; null is an empty field, a list has spaces
    between."""
    text = io.StringIO()
    writer = csv.DictWriter(text, schema.METRICS.schema.names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | {"mean_of": " ".join(row["mean_of"] or ())} for row in tables.metrics)
    return text.getvalue()


def scores_tex(tables: Tables) -> str:
    """The score table for a paper (needs the package booktabs): value and standard error, the longer of
    models and benchmarks down the side; a dash where there is no score."""
    down, across = sides(tables)
    by_model = down == tables.models
    lines = [
        "% Scores with standard errors. Needs \\usepackage{booktabs}.",
        f"\\begin{{tabular}}{{l{'r' * len(across)}}}",
        "\\toprule",
        _row(["Model" if by_model else "Benchmark", *map(latex, across)]),
        "\\midrule",
    ]
    for row in down:
        keys = [(row, column) if by_model else (column, row) for column in across]
        lines.append(_row([latex(row), *(_cell(tables.scores.get(key)) for key in keys)]))
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", *_notes(tables), ""])


def _notes(tables: Tables) -> list[str]:
    """What was asked for, as comments: by benchmark, and by model where it differs."""
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
    """What stands down the side and what across the top of the score table: the longer list goes down."""
    if len(tables.models) >= len(tables.benchmarks):
        return tables.models, tables.benchmarks
    return tables.benchmarks, tables.models


def latex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(character, character) for character in text)


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(score: Score | None) -> str:
    if score is None or score.value is None:
        return "--"
    error = "" if score.se is None else rf" {{\scriptsize$\pm$\,{score.se:.3f}}}"
    lost = rf" {{\scriptsize({score.n_unanswered:,} unanswered)}}" if score.n_unanswered else ""
    return f"{score.value:.3f}{error}{lost}"
