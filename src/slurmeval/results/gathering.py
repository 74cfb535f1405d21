"""What the partitions of all evaluations hold, without reading again what has not changed.

Partitions never change once they are written. What was read of each is kept in `state/gathered`, and counts
for as long as the partition's files are the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from slurmeval.files import write_atomically
from slurmeval.results import SCHEMA_VERSION, schema
from slurmeval.results.in_flight import InFlight, Pair, log_segments, of_evaluation
from slurmeval.results.partitions import read_rows, relative

if TYPE_CHECKING:
    from slurmeval.paths import Paths

Row = dict[str, Any]
_Files = list[list[int]]
_ARRAYS = ["begin", "end", "engine_run"]


@dataclass
class Gathered:
    """What was read. `unreadable`: why a partition that is there does not count."""

    metrics: dict[Pair, pa.Table] = field(default_factory=dict)
    evaluations: dict[Pair, Row] = field(default_factory=dict)
    in_flight: dict[Pair, InFlight] = field(default_factory=dict)
    unreadable: dict[Pair, str] = field(default_factory=dict)
    _files: dict[Pair, _Files] = field(default_factory=dict)

    def all_metrics(self, pairs: Iterable[Pair]) -> pa.Table:
        """The rows of all metrics, in the order of the evaluations."""
        tables = [self.metrics[pair] for pair in pairs if pair in self.metrics]
        return pa.concat_tables([schema.METRICS.schema.empty_table(), *tables])


def gather(paths: Paths, pairs: Sequence[Pair]) -> Gathered:
    """Reads the partitions of these evaluations, as far as they are new, and keeps what it read."""
    before, found = _read_kept(paths), Gathered()
    for pair in pairs:
        files = _files_of(paths, pair)
        found._files[pair] = files
        if files and before._files.get(pair) == files:
            _take(found, before, pair)
        else:
            _read(paths, pair, found)
    if found._files != before._files:
        _keep(paths, found)
    return found


def unchanged(paths: Paths, pairs: Iterable[Pair]) -> set[Pair]:
    """The evaluations whose partitions were read before, are of this version, and have not changed since."""
    try:
        index = json.loads((paths.gathered / "index.json").read_bytes())
        if index["version"] != SCHEMA_VERSION:
            return set()
        known = {tuple(entry["pair"]): entry["files"] for entry in index["evaluations"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {pair for pair in pairs if pair in known and known[pair] == _files_of(paths, pair)}


def _files_of(paths: Paths, pair: Pair) -> _Files:
    """Which files an evaluation's rows come from, in a form that tells a rewritten file from the old one."""
    partition = paths.evaluation(*pair)
    there = partition.exists()
    files = [partition, paths.metrics(*pair), paths.requests(*pair)] if there else log_segments(paths, pair)
    return [list(_identity(file)) for file in files]


def _identity(file: Path) -> Iterator[int]:
    try:
        status = file.stat()
    except OSError:
        return
    yield from (status.st_size, status.st_mtime_ns, status.st_ino)


def _take(found: Gathered, before: Gathered, pair: Pair) -> None:
    for kind in ("metrics", "evaluations", "in_flight"):
        if pair in getattr(before, kind):
            getattr(found, kind)[pair] = getattr(before, kind)[pair]


def _read(paths: Paths, pair: Pair, found: Gathered) -> None:
    partition = paths.evaluation(*pair)
    if partition.exists():
        try:
            (found.evaluations[pair],) = read_rows(partition, schema.EVALUATIONS).to_pylist()
            found.metrics[pair] = read_rows(paths.metrics(*pair), schema.METRICS)
        except schema.SchemaDrift as error:
            found.unreadable[pair] = str(error)
        except (OSError, pa.ArrowInvalid, ValueError) as error:
            file = partition if pair not in found.evaluations else paths.metrics(*pair)
            words = str(error).splitlines()[0] if str(error) else type(error).__name__
            found.unreadable[pair] = f"{relative(paths, str(file))} cannot be read: {words}"
    if pair in found.unreadable:
        found.evaluations.pop(pair, None)
        found._files[pair] = []  # looked at again next time
    found.in_flight[pair] = of_evaluation(paths, pair)


# What is kept


def _keep(paths: Paths, found: Gathered) -> None:
    pairs = [pair for pair, files in found._files.items() if files]
    folder = paths.gathered
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)  # last of all, so that it tells of whole files
    pq.write_table(found.all_metrics(pairs), folder / "metrics.parquet")
    rows = [found.evaluations[pair] for pair in pairs if pair in found.evaluations]
    pq.write_table(pa.Table.from_pylist(rows, schema.EVALUATIONS.schema), folder / "evaluations.parquet")
    asked = [found.in_flight[pair] for pair in pairs]
    empty = np.zeros(0, np.int64)
    arrays = {name: np.concatenate([empty, *(getattr(each, name) for each in asked)]) for name in _ARRAYS}
    pq.write_table(pa.table(arrays), folder / "in_flight.parquet")
    entries = [
        {
            "pair": pair,
            "files": found._files[pair],
            "metrics": found.metrics[pair].num_rows if pair in found.metrics else None,
            "engine_runs": found.in_flight[pair].engine_runs,
            "intervals": len(found.in_flight[pair].begin),
        }
        for pair in pairs
    ]
    index = {"version": SCHEMA_VERSION, "evaluations": entries}
    write_atomically(folder / "index.json", json.dumps(index))


def _read_kept(paths: Paths) -> Gathered:
    """What an earlier call has kept; nothing where it is of another version, or not whole."""
    folder, found = paths.gathered, Gathered()
    try:
        index = json.loads((folder / "index.json").read_bytes())
        if index["version"] != SCHEMA_VERSION:
            return Gathered()
        metrics = read_rows(folder / "metrics.parquet", schema.METRICS)
        rows = read_rows(folder / "evaluations.parquet", schema.EVALUATIONS).to_pylist()
        asked_for = pq.read_table(folder / "in_flight.parquet", columns=_ARRAYS, partitioning=None)
        begin, end, engine_run = (asked_for[name].to_numpy() for name in _ARRAYS)
        row = asked = 0
        found.evaluations = {(each["model"], each["benchmark"]): each for each in rows}
        for entry in index["evaluations"]:
            model, benchmark = entry["pair"]
            pair = (model, benchmark)
            found._files[pair] = entry["files"]
            if entry["metrics"] is not None:
                found.metrics[pair] = metrics.slice(row, entry["metrics"])
                row += entry["metrics"]
            own = slice(asked, asked + entry["intervals"])
            engine_runs = [(server, number) for server, number in entry["engine_runs"]]
            found.in_flight[pair] = InFlight(engine_runs, begin[own], end[own], engine_run[own])
            asked = own.stop
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException, schema.SchemaDrift):
        return Gathered()
    return found
