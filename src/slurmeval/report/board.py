"""The leaderboard on the first page: what `slurmeval show` says, and what each benchmark was asked with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from slurmeval.results.exporting import settings
from slurmeval.results.leaderboard import Leaderboard, Ranking, Standing, leaderboard
from slurmeval.results.matrix import Matrix

if TYPE_CHECKING:
    from slurmeval.paths import Paths
    from slurmeval.report.tables import Tables
    from slurmeval.results.doubts import Doubts

MAX_BENCHMARKS = 6
"""Of that many, models stand down the side; else the longer of models and benchmarks."""


@dataclass(frozen=True)
class Board:
    """The leaderboard of a run. The mean is meant where a benchmark is None."""

    board: Leaderboard
    compared: frozenset[str | None]
    """Benchmarks of which all pairs of models were compared."""
    asked: dict[str, str]
    """Settings of all evaluations of a benchmark: limit, examples, sampling; none where they differ."""
    asked_of: dict[tuple[str, str], str]
    """Settings of single evaluations, of benchmarks where they differ."""
    lower: frozenset[str]
    """Benchmarks of which less is better."""

    def letters(self, model: str, benchmark: str | None = None) -> str:
        """Returns the groups that a model is in; empty if pairs were not compared, or there is one model."""
        ranking = self._ranking(benchmark)
        return ranking.letters(model) if ranking else ""

    def leads(self, model: str, benchmark: str | None = None) -> bool:
        """Whether a model is the best or cannot be told from it, and others can."""
        ranking = self._ranking(benchmark)
        if ranking is None or len(ranking.groups) < 2:
            return False
        beside = {other for group in ranking.groups if ranking.order[0] in group for other in group}
        return model in beside and len(beside) < len(ranking.order)

    def standing(self, model: str) -> Standing | None:
        """Returns a model's mean over the benchmarks; None if there are not several to average."""
        return self.board.standings.get(model)

    def less_is_better(self, benchmark: str) -> bool:
        """Whether less is better, of scores of 0 to 1."""
        scores = [entry.value for (_, name), entry in self.board.entries.items() if name == benchmark]
        return benchmark in self.lower and all(value is None or 0 <= value <= 1 for value in scores)

    @cached_property
    def lettered(self) -> bool:
        """Whether any score has letters."""
        return any(self.letters(*key) for key in self.board.entries)

    @cached_property
    def bold(self) -> bool:
        """Whether any score is bold."""
        return any(self.leads(*key) for key in self.board.entries)

    @cached_property
    def doubtful(self) -> bool:
        """Whether any score depends on how answers are read."""
        return any(each.depends_on_reading for each in self.board.entries.values())

    @cached_property
    def left_out(self) -> list[str]:
        """Benchmarks that are not in the mean."""
        return [each for each in self.board.benchmarks if each not in self.board.averaged]

    def _ranking(self, benchmark: str | None) -> Ranking | None:
        found = self.board.ranking if benchmark is None else self.board.rankings.get(benchmark)
        known = found is not None and benchmark in self.compared and len(found.order) > 1
        return found if known else None


def of_run(paths: Paths, run: Tables, matrices: Sequence[Matrix], doubts: Doubts) -> Board:
    """Returns the leaderboard of a run whose pairs of models are compared in `matrices`.

    `doubts`: what the answers said that were read for these.
    """
    asked: dict[str, str] = {}
    asked_of: dict[tuple[str, str], str] = {}
    for benchmark in run.benchmarks:
        rows = [row for row in run.of_status("ok") if row["benchmark"] == benchmark]
        words = {(row["model"], benchmark): settings(row) for row in rows}
        if len(set(words.values())) == 1:
            asked[benchmark] = next(iter(words.values()))
        else:
            asked_of |= words
    lower = frozenset(s.benchmark for s in run.scores.values() if s.higher_is_better is False)
    compared = frozenset(matrix.benchmark for matrix in matrices if matrix.suite is None)
    return Board(
        leaderboard(paths.results, compared=matrices, doubts=doubts), compared, asked, asked_of, lower
    )
