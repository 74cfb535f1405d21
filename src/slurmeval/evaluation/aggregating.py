"""Writes the tables over all evaluations of a run, of whatever version their partitions are."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from slurmeval.config.of_run import config_of
from slurmeval.errors import SlurmevalError
from slurmeval.paths import Paths
from slurmeval.results import SCHEMA_VERSION, partitions
from slurmeval.results.aggregate import aggregate
from slurmeval.results.gathering import unchanged
from slurmeval.state.run_document import RunDocument

Pair = tuple[str, str]


def outdated(paths: Paths, pairs: Iterable[Pair]) -> list[Pair]:
    """Returns the evaluations whose partitions are of another version of the tables."""
    found: list[Pair] = []
    asked = list(pairs)
    current = unchanged(paths, asked)
    for pair in asked:
        if pair in current:
            continue
        version = partitions.version_of(paths.evaluation(*pair))
        if version is not None and version != str(SCHEMA_VERSION):
            found.append(pair)
    return found


def gather(run: RunDocument, say: Callable[[str], None]) -> None:
    """Writes the tables over all evaluations; partitions of another version are rescored before."""
    paths, pairs = run.paths, run.evaluations
    failed: dict[Pair, SlurmevalError] = {}
    if stale := outdated(paths, pairs):
        from slurmeval.evaluation.rescoring import rescore_all  # takes longer to import than tables to write

        failed = rescore_all(run, stale, say)
    unusable = {pair: str(error) for pair, error in failed.items()}
    judges = [model for model in run.models if model not in dict(pairs)]
    config = config_of(run)
    judged = {pair: list(config.judged(*pair).values()) for pair in pairs}
    aggregate(paths, pairs, unusable=unusable, judges=judges, judged=judged)
    from slurmeval.judges.gathering import gather_judges  # imports numpy and more

    gather_judges(paths, config, run.project, pairs, say)
