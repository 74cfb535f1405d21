"""A jury: the verdicts of several judges on the same answers, put together. Nobody is asked anything."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

COLUMNS = ("native_id", "repeat_idx", "category", "input", "reference", "scores", "metadata_json")


def lines_of(partitions: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Returns a line for each answer that a juror has judged, with all votes on it.

    Args:
        partitions: The `samples` of each juror's evaluation.
    """
    found: dict[tuple[str, int], dict[str, Any]] = {}
    votes: dict[tuple[str, int], dict[str, dict[str, list[float]]]] = {}
    for juror, path in partitions.items():
        for row in pq.read_table(path, columns=list(COLUMNS), use_threads=False).to_pylist():
            metadata = json.loads(row["metadata_json"] or "{}")
            key = row["native_id"], int(metadata["repeat"])
            found.setdefault(key, _line(row, key, metadata))
            for score in row["scores"]:
                of_juror = votes.setdefault(key, {}).setdefault(score["metric"], {})
                given = of_juror.setdefault(juror, [])
                if score["value"] is not None:
                    given.append(score["value"])
    for key, line in found.items():
        line["votes"] = {
            metric: {juror: statistics.fmean(given) if given else None for juror, given in jurors.items()}
            for metric, jurors in votes.get(key, {}).items()
        }
    return list(found.values())


def _line(row: dict[str, Any], key: tuple[str, int], metadata: dict[str, Any]) -> dict[str, Any]:
    texts = {name: row[name] for name in ("category", "input", "reference")}
    return {
        "sample_uid": key[0],
        "of_repeat": key[1],
        **texts,
        "output": metadata["judged"],
        "metadata": metadata,
    }


def verdict(votes: Mapping[str, float | None], majority: bool) -> float | None:
    """Returns what a jury says: the mean of its votes, or of a comparison what most say; None: no vote.

    Of a comparison without a majority the verdict is a tie, 0.5.
    """
    given = [vote for vote in votes.values() if vote is not None]
    if not given:
        return None
    if not majority:
        return statistics.fmean(given)
    (first, count), *others = Counter(given).most_common()
    return 0.5 if any(count == other for _, other in others) else first


def disagreement(votes: Mapping[str, float | None]) -> float | None:
    """Returns how far apart the highest and the lowest vote are; None: there are not two."""
    given = [vote for vote in votes.values() if vote is not None]
    return max(given) - min(given) if len(given) > 1 else None
