"""Many comparisons at once: corrected p-values, rank bands, and groups that cannot be told apart."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from slurmeval.statistics.pairs import Verdict

Pair = tuple[str, str]


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values corrected for a stated family of comparisons (Holm 1979): no false one at 95 %."""
    count = len(p_values)
    corrected, largest = [0.0] * count, 0.0
    for rank, index in enumerate(sorted(range(count), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (count - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def verdict_of(verdicts: Mapping[Pair, Verdict], a: str, b: str) -> Verdict:
    """Returns the verdict on a pair, whichever way round it is stored."""
    return verdicts[a, b] if (a, b) in verdicts else verdicts[b, a].reversed


def rank_bands(models: Sequence[str], verdicts: Mapping[Pair, Verdict]) -> dict[str, tuple[int, int]]:
    """Returns the best and the worst rank that the verdicts leave to each model.

    A model is behind those that are surely better, and ahead of those that are surely worse.
    """
    bands = {}
    for model in models:
        against = [verdict_of(verdicts, model, other) for other in models if other != model]
        bands[model] = (1 + against.count(Verdict.WORSE), len(models) - against.count(Verdict.BETTER))
    return bands


def groups(models: Sequence[str], verdicts: Mapping[Pair, Verdict]) -> list[list[str]]:
    """Returns the largest groups of models of which no two can be told apart.

    Groups and their members stand in the order of `models`. A model may be in several groups: A and B, B and
    C cannot be told apart, A and C can. The groups are the letters of a compact letter display, found by
    inserting each difference and absorbing what is then part of another (Piepho, J. Comput. Graph. Stat. 13
    (2004) 456).
    """
    bits = {model: 1 << rank for rank, model in enumerate(models)}  # a group is the sum of its models' bits
    found = [(1 << len(models)) - 1]
    for a, b in itertools.combinations(models, 2):
        if verdict_of(verdicts, a, b) not in (Verdict.BETTER, Verdict.WORSE):
            continue
        both = bits[a] | bits[b]
        whole = [group for group in found if group & both != both]
        split = [group & ~bits[one] for group in found if group & both == both for one in (a, b)]
        found = whole + [
            group
            for group in split
            if all(group & ~other for other in whole)
            and all(group & ~other for other in split if other != group)
        ]
    ranks = sorted([rank for rank in range(len(models)) if group >> rank & 1] for group in found)
    return [[models[rank] for rank in group] for group in ranks]
