"""LaTeX: the table of scores for a paper, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from slurmeval.results.exporting import number_of, settings

if TYPE_CHECKING:
    from pathlib import Path

    from slurmeval.results.exporting import Row, Run


def export(run: Run, folder: Path) -> Iterator[str]:
    """Writes `scores.tex`."""
    (folder / "scores.tex").write_text(text(run), encoding="utf-8")
    for row in run.ended:
        if run.primary(row["model"], row["benchmark"]) is None:
            yield f"a dash for {row['model']} on {row['benchmark']}: no metric stands for the whole benchmark"


def text(run: Run) -> str:
    """Returns the score table, which needs the LaTeX package booktabs.

    A cell has the value and its 95 % interval, or a dash. The longer of models and benchmarks goes down the
    side. What was measured and asked for, and what is missing, follows in comments.
    """
    import pandas

    models = [*dict.fromkeys(row["model"] for row in run.evaluations)]
    benchmarks = [*dict.fromkeys(row["benchmark"] for row in run.evaluations)]
    down, across = sides(models, benchmarks)
    by_model = down == models
    ended = {(row["model"], row["benchmark"]) for row in run.ended}
    pairs = [[(row, column) if by_model else (column, row) for column in across] for row in down]
    cells = [[_cell(run.primary(*pair) if pair in ended else None) for pair in line] for line in pairs]
    frame = pandas.DataFrame(cells, index=map(_one_line, down), columns=map(_one_line, across))
    frame.columns.name = "Model" if by_model else "Benchmark"
    style = frame.style.format_index(escape="latex", axis=0).format_index(escape="latex", axis=1)
    table = style.to_latex(hrules=True, column_format="l" + "r" * len(across))
    head = "% Scores with 95 % intervals. Needs \\usepackage{booktabs}."
    return "\n".join([head, *table.splitlines(), *(f"% {_one_line(note)}" for note in _notes(run)), ""])


def sides(models: Sequence[str], benchmarks: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Returns the names down the side and across the top of the score table. The longer list goes down."""
    return (models, benchmarks) if len(models) >= len(benchmarks) else (benchmarks, models)


def _notes(run: Run) -> Iterator[str]:
    """Yields what a score is and what was asked for: by benchmark, and by model where it differs."""
    asked: dict[str, dict[str, str]] = {}
    for row in run.ended:
        primary = run.primary(row["model"], row["benchmark"])
        words = "no metric of the whole" if primary is None else primary["metric"]
        asked.setdefault(row["benchmark"], {})[row["model"]] = f"{words}; {settings(row)}"
    for benchmark, by_model in asked.items():
        same = len(set(by_model.values())) == 1
        named = {"": next(iter(by_model.values()))} if same else by_model
        for model, words in named.items():
            yield f"{benchmark}{f' ({model})' if model else ''}: {words}"
    yield from run.left_out()


def _one_line(name: str) -> str:
    return " ".join(name.split())


def _cell(metric: Row | None) -> str:
    """Returns a score with its interval; what is no proportion as the harness wrote it."""
    number = None if metric is None else number_of(metric)
    if metric is None or number is None:
        return "--"
    interval = ""
    if metric["ci_lo"] is not None:
        interval = rf" {{\scriptsize [{metric['ci_lo']:.3f}, {metric['ci_hi']:.3f}]}}"
    lost = rf" {{\scriptsize({metric['n_unanswered']:,} unanswered)}}" if metric["n_unanswered"] else ""
    return f"{number:.3f}{interval}{lost}"
