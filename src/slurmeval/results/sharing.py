"""Benchmarks that ask the same questions: their errors are not independent of one another."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from slurmeval.results import frames
from slurmeval.results.kept import Kept, fingerprint


@dataclass(frozen=True)
class Sharing:
    """Which benchmarks of a run share questions."""

    pairs: tuple[tuple[str, str, int], ...] = ()
    """Two benchmarks, and how many questions both ask."""
    families: Mapping[str, int] = field(default_factory=dict)
    """A number for each benchmark: those that share questions, if only through others, have the same."""

    def of(self, benchmarks: Iterable[str]) -> list[int]:
        """Returns the families of these benchmarks; one of which nothing is known is its own."""
        return [self.families.get(each, -1 - place) for place, each in enumerate(benchmarks)]


def sharing(results: Path, evaluations: Iterable[tuple[str, str]]) -> Sharing:
    """Returns which benchmarks share questions, by the first model with answers to each.

    Only those that share a task are looked into: a question's name has its task in it.

    Args:
        results: The results folder.
        evaluations: Models and benchmarks that ended well.
    """
    paths: dict[str, Path] = {}
    for model, benchmark in evaluations:
        path = results / "samples" / model / f"{benchmark}.parquet"
        if benchmark not in paths and path.is_file():
            paths[benchmark] = path
    kept, name, of = Kept(results, "sharing"), " ".join(paths), fingerprint(paths.values())
    found = kept.get(name, of)
    if found is None:
        found = _shared(paths)
        kept.put(name, of, found)
        kept.save()
    pairs = tuple((a, b, count) for a, b, count in found)
    return Sharing(pairs, _families(list(paths), pairs))


def _shared(paths: Mapping[str, Path]) -> list[tuple[str, str, int]]:
    tasks = {
        benchmark: set(pc.unique(frames.read_samples(path, ["task"])["task"]).to_pylist())
        for benchmark, path in paths.items()
    }
    alike = [(a, b) for a, b in itertools.combinations(paths, 2) if tasks[a] & tasks[b]]
    uids: dict[str, pa.Array] = {
        each: pc.unique(frames.read_samples(paths[each], ["sample_uid"])["sample_uid"])
        for each in dict.fromkeys(itertools.chain(*alike))
    }
    # Hundreds of pairs are looked into only where there is something to be found
    n_all = sum(map(len, uids.values()))
    if not uids or pc.count_distinct(pa.chunked_array(list(uids.values()))).as_py() == n_all:
        return []
    counts = ((a, b, pc.sum(pc.is_in(uids[a], uids[b])).as_py() or 0) for a, b in alike)
    return [each for each in counts if each[2]]


def _families(benchmarks: Sequence[str], pairs: Iterable[tuple[str, str, int]]) -> dict[str, int]:
    families = {benchmark: number for number, benchmark in enumerate(benchmarks)}
    for a, b, _ in pairs:
        families = {each: families[a] if of == families[b] else of for each, of in families.items()}
    return families
