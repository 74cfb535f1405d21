"""What is kept of a study once raters' files are read: a table, a summary, and what to talk about."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slurmeval.errors import UserError
from slurmeval.files import read_json, write_atomically, write_json
from slurmeval.humans import outcomes, quality
from slurmeval.humans.drawing import Stratum
from slurmeval.humans.elsewhere import harmless
from slurmeval.humans.reading import MergedRatings
from slurmeval.results import columns
from slurmeval.results.human_ratings import RATINGS
from slurmeval.results.partitions import write_table

SUMMARY = "summary.json"
ADJUDICATE = "adjudicate.csv"


@dataclass(frozen=True)
class StudySummary:
    """What a study found, as the report shows it."""

    name: str
    title: str
    kind: str
    made_at: str
    strata: list[Stratum]
    agreements: list[quality.Agreement]
    raters: list[quality.RaterQuality]
    means: list[outcomes.MeanRating]
    differences: list[outcomes.RatingDifference]
    strengths: list[outcomes.ModelStrength]
    n_disputed: int
    remarks: list[str]


def summarised(merged: MergedRatings) -> StudySummary:
    """Returns what ratings say of raters and of models."""
    study = merged.batch.declared
    return StudySummary(
        study.name,
        study.title or study.name,
        study.kind,
        merged.batch.made_at,
        merged.batch.strata,
        quality.agreements(merged),
        quality.raters(merged),
        outcomes.means(merged),
        outcomes.differences(merged),
        outcomes.strengths(merged),
        len(quality.disputed(merged)),
        merged.remarks,
    )


def write(folder: Path, merged: MergedRatings) -> StudySummary:
    """Writes ratings (Parquet and CSV), the summary and the list to adjudicate into the study's folder."""
    rows = list(_rows(merged))
    if not rows:
        raise UserError("the files hold no ratings of drawn answers")
    part = folder / f".{RATINGS.name}.parquet"
    write_table(part, RATINGS, columns.table(columns.of_rows(rows), {}, RATINGS))
    part.replace(folder / f"{RATINGS.name}.parquet")
    _write_csv(folder / f"{RATINGS.name}.csv", rows, RATINGS.schema.names)
    _write_csv(folder / ADJUDICATE, list(_to_adjudicate(merged)), _ADJUDICATED)
    summary = summarised(merged)
    write_json(folder / SUMMARY, asdict(summary))
    return summary


def summaries(studies: Path) -> list[StudySummary]:
    """Returns what all studies of a run found, by name."""
    from pydantic import TypeAdapter

    found = (read_json(file) for file in sorted(studies.glob(f"*/{SUMMARY}")))
    return [TypeAdapter(StudySummary).validate_python(each) for each in found]


def _rows(merged: MergedRatings) -> Iterator[dict[str, Any]]:
    """Yields a row for each value; gold is in the summary alone."""
    for each in merged.items:
        unit = merged.batch.units[each.item.unit]
        if unit.gold is not None:
            continue
        for name, value in each.values.items():
            yield {
                "study": merged.batch.declared.name,
                "model": unit.models[0],
                "against": unit.models[1] if len(unit.models) > 1 else None,
                "benchmark": unit.benchmark,
                "sample_uid": unit.sample_uid,
                "repeat_idx": unit.repeat_idx,
                "rater": each.rater,
                "dimension": name,
                "value": value,
                "random": unit.probability is not None,
                "probability": unit.probability,
                "again": each.item.again,
                "position": each.position,
                "time_s": each.time_s,
                "flags": each.flags,
                "comment": each.comment,
            }


_ADJUDICATED = ["unit", "question", "answer_a", "answer_b", "ratings", "comments"]


def _to_adjudicate(merged: MergedRatings) -> Iterator[dict[str, Any]]:
    """Yields what raters should talk about, still without models' names."""
    for group in quality.disputed(merged):
        unit = merged.batch.units[group[0].item.unit]
        said = [
            f"{each.rater}: " + (", ".join(f"{name} {value:g}" for name, value in each.values.items()) or "–")
            for each in group
        ]
        yield {
            "unit": group[0].item.unit,
            "question": unit.question,
            "answer_a": unit.answers[0],
            "answer_b": unit.answers[1] if len(unit.answers) > 1 else "",
            "ratings": "; ".join(said),
            "comments": "; ".join(f"{each.rater}: {each.comment}" for each in group if each.comment),
        }


def _write_csv(path: Path, rows: list[dict[str, Any]], names: list[str]) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(row[name]) for name in names] for row in rows)
    write_atomically(path, stream.getvalue())


def _cell(value: Any) -> Any:
    """Returns a value as spreadsheets may have it: no text is taken for a formula."""
    if isinstance(value, list):
        value = json.dumps(value, ensure_ascii=False)
    return harmless(value) if isinstance(value, str) else value
